"""A pod template taken apart: fields that a TrainingJob has itself, and what is left of it."""

from dataclasses import dataclass, field
from typing import Any

from trainyard.errors import Rejected
from trainyard_operator.contract import CONTAINER

_LEFT_TO_US = {
    "restartPolicy": "a failure restarts the whole gang",
    "hostname": "each pod has the name of its node",
    "subdomain": "the job's own Service names its pods",
}
_RENDEZVOUS = frozenset(
    {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}
)


@dataclass
class PodParts:
    """Where the fields of a template went."""

    spec: dict[str, Any] = field(default_factory=dict)
    """Of the TrainingJob: image, command, args, resources, template."""
    scheduling: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def split_pod(template: dict[str, Any], path: str) -> PodParts:
    """path: of the template, for sentences. Raises Rejected without the container `pytorch`."""
    found = PodParts()
    pod = dict(template.get("spec") or {})
    for key in ("schedulerName", "priorityClassName"):
        if value := pod.pop(key, None):
            found.scheduling[key] = value
    for key, reason in _LEFT_TO_US.items():
        if pod.pop(key, None):
            found.notes.append(f"{path}.spec.{key} is left out: {reason}.")
    pod["containers"] = _containers(pod.get("containers") or [], f"{path}.spec", found)
    if not pod["containers"]:
        del pod["containers"]
    metadata = template.get("metadata") or {}
    kept = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    for key in sorted(set(metadata) - set(kept) - {"creationTimestamp"}):
        found.notes.append(f"{path}.metadata.{key} is left out: pods are named by the operator.")
    overlay = {"metadata": kept, "spec": pod}
    if overlay := {key: value for key, value in overlay.items() if value}:
        found.spec["template"] = overlay
    return found


def _containers(
    containers: list[dict[str, Any]], path: str, found: PodParts
) -> list[dict[str, Any]]:
    """Those of the overlay; what a TrainingJob says itself goes into `found`."""
    own = next((each for each in containers if each.get("name") == CONTAINER), None)
    if own is None:
        raise Rejected(
            f"{path}.containers: no container '{CONTAINER}', which is the one that trains"
        )
    rest = dict(own)
    for key in ("image", "command", "args"):
        if value := rest.pop(key, None):
            found.spec[key] = value
    if resources := dict(rest.pop("resources", None) or {}):
        if resources.pop("claims", None):
            found.notes.append(
                f"{path}.containers.resources.claims is left out: put it into spec.template."
            )
        found.spec["resources"] = resources
    if "env" in rest:
        rest["env"] = _environment(rest["env"] or [], f"{path}.containers.env", found)
    rest = {key: value for key, value in rest.items() if value not in ([], {}, None)}
    others = [each for each in containers if each is not own]
    return [*([rest] if len(rest) > 1 else []), *others]


def _environment(env: list[dict[str, Any]], path: str, found: PodParts) -> list[dict[str, Any]]:
    for name in sorted(each["name"] for each in env if each["name"] in _RENDEZVOUS):
        found.notes.append(f"{path} {name} is left out: each attempt sets it.")
    return [each for each in env if each["name"] not in _RENDEZVOUS]
