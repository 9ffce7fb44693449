"""Strategic merge of a pod template overlay, as kubectl patches pods."""

from typing import Any

_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
}
"""Lists of objects that merge by a key; every other list is replaced."""
_WHOLE = frozenset({"env", "volumes"})
"""Of these lists an item is replaced, not merged: `value` beside `valueFrom`, or an emptyDir
beside a claim, would be refused."""
_MAPPINGS = frozenset({"labels", "annotations", "nodeSelector"})
_APPENDED = frozenset({"tolerations", "topologySpreadConstraints", "envFrom"})


def merge(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """`overlay` laid over `base`; neither is changed. A None in the overlay removes the field."""
    result = dict(base)
    for key, value in overlay.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_value(key, base.get(key), value)
    return result


def _merge_value(key: str, base: Any, overlay: Any) -> Any:
    if isinstance(base, dict) and isinstance(overlay, dict):
        return merge(base, overlay)
    if isinstance(base, list) and isinstance(overlay, list):
        if key in _APPENDED:
            return [*base, *overlay]
        if key in _MERGE_KEYS:
            return _merge_list(key, base, overlay)
    return overlay


def _merge_list(
    name: str, base: list[dict[str, Any]], overlay: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    key = _MERGE_KEYS[name]
    changes = {item.get(key): item for item in overlay}
    if name in _WHOLE:
        merged = [changes.pop(item.get(key), item) for item in base]
    else:
        merged = [merge(item, changes.pop(item.get(key), {})) for item in base]
    return merged + list(changes.values())


def shape_problem(overlay: Any, path: str) -> str:
    """Where an overlay is not shaped like a pod template, in a sentence; empty where it is."""
    if not isinstance(overlay, dict):
        return f"{path} must be keys and values."
    for key, value in overlay.items():
        here, problem = f"{path}.{key}", ""
        if key in _MERGE_KEYS:
            problem = _list_problem(key, value, here)
        elif key in {"metadata", "spec"}:
            problem = shape_problem(value, here)
        elif key in _MAPPINGS and not isinstance(value, dict):
            problem = f"{here} must be keys and values."
        if problem:
            return problem
    return ""


def _list_problem(name: str, value: Any, path: str) -> str:
    key = _MERGE_KEYS[name]
    if not isinstance(value, list):
        return f"{path} must be a list."
    for index, item in enumerate(value):
        here = f"{path}[{index}]"
        if not isinstance(item, dict) or not isinstance(item.get(key), str | int):
            return f"{here} needs a {key}."
        if problem := shape_problem(item, here):
            return problem
    return ""
