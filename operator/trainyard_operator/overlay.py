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
            return _merge_list(_MERGE_KEYS[key], base, overlay)
    return overlay


def _merge_list(
    key: str, base: list[dict[str, Any]], overlay: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    changes = {item.get(key): item for item in overlay}
    merged = [merge(item, changes.pop(item.get(key), {})) for item in base]
    return merged + list(changes.values())
