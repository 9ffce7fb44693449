"""Strategic merge of a pod template overlay, as kubectl patches pods."""

import json
from typing import Any

LONGEST = 65536
"""Characters of a template; each pod of the gang carries it."""
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
_MAPPINGS = frozenset({"labels", "annotations", "nodeSelector", "limits", "requests"})
INSISTENCE = "requiredDuringSchedulingIgnoredDuringExecution"
"""Field of an affinity: what has to hold."""
PREFERENCE = "preferredDuringSchedulingIgnoredDuringExecution"
"""And what had better hold."""
_ROOTS = frozenset({"metadata", "spec"})
_NESTED = _ROOTS | {"affinity", "nodeAffinity", "resources", "securityContext", INSISTENCE}
"""What builders look into."""
_LISTS_OF_MAPPINGS = frozenset({"nodeSelectorTerms", PREFERENCE, "matchFields", "tolerations"})
_UNIQUE = frozenset({"containers", "initContainers", "volumes", "volumeMounts"})
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
        elif value is None and key not in _ROOTS:
            continue  # It removes the field.
        elif key in _NESTED:
            problem = shape_problem(value, here)
        elif key in _LISTS_OF_MAPPINGS and not _is_list_of_mappings(value):
            problem = f"{here} must be a list of keys and values."
        elif key in _MAPPINGS and not isinstance(value, dict):
            problem = f"{here} must be keys and values."
        if problem:
            return problem
    return ""


def forbidden_part(template: dict[str, Any], path: str) -> str:
    """What a template may hold in a pod, but not in one of a gang, in a sentence."""
    if len(json.dumps(template)) > LONGEST:
        return f"{path} is longer than {LONGEST} characters; keep data in a ConfigMap or a volume."
    if (template.get("metadata") or {}).get("finalizers"):
        return (
            f"{path}.metadata.finalizers would keep pods from going, and with them the next "
            "attempt from beginning; drop the field."
        )
    return ""


def only_pod_parts(template: dict[str, Any]) -> dict[str, Any]:
    """The template without what the API server alone writes, such as a creationTimestamp."""
    metadata = template.get("metadata") or {}
    kept = {key: metadata[key] for key in ("labels", "annotations") if key in metadata}
    return {"metadata": kept, "spec": template.get("spec") or {}}


def _list_problem(name: str, value: Any, path: str) -> str:
    key = _MERGE_KEYS[name]
    if not isinstance(value, list):
        return f"{path} must be a list."
    names = set()
    for index, item in enumerate(value):
        here = f"{path}[{index}]"
        if not isinstance(item, dict) or not isinstance(item.get(key), str | int):
            return f"{here} needs a {key}."
        if item[key] in names and name in _UNIQUE:
            return f"{here}: {key} '{item[key]}' is there twice; merge the two."
        names.add(item[key])
        if problem := shape_problem(item, here):
            return problem
    return ""


def _is_list_of_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
