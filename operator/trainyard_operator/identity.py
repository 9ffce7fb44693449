"""By what the objects of a TrainingJob are known: names, labels, owner, the hash of the spec."""

import hashlib
import json
from typing import Any, Protocol

from trainyard_operator.api import JobSpec, ObjectMeta, TrainingJob
from trainyard_operator.contract import Label


class Owner(Protocol):
    """A TrainingJob, or whatever else owns objects and has events."""

    @property
    def api_version(self) -> str:
        """Group and version."""

    @property
    def kind(self) -> str:
        """Its kind."""

    @property
    def metadata(self) -> ObjectMeta:
        """Its name, namespace and uid."""


def node_name(job: str, node_index: int) -> str:
    """Name of a node's pod, as PyTorchJob has it."""
    return f"{job}-master-0" if node_index == 0 else f"{job}-worker-{node_index - 1}"


def node_index_of(pod: str) -> int:
    """Undo `node_name`."""
    role, _, index = pod.rpartition("-")
    return 0 if role.endswith("-master") else int(index) + 1


def spec_hash(spec: JobSpec) -> str:
    """Changes when pods have to be built anew; runPolicy acts on living pods."""
    # Without defaults: a field that a new operator adds must not restart every job.
    fields = spec.model_dump(mode="json", exclude={"run_policy"}, exclude_defaults=True)
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def labels_of(job: TrainingJob) -> dict[str, str]:
    """On every object of a job."""
    return {
        Label.APP_NAME: "trainyard",
        Label.APP_COMPONENT: "trainer",
        Label.APP_INSTANCE: job.metadata.name,
        Label.APP_MANAGED_BY: "trainyard-operator",
        Label.JOB: job.metadata.name,
        Label.JOB_UID: job.metadata.uid,
    }


def owner_of(owner: Owner) -> dict[str, Any]:
    """A job or a sweep as an owner reference: what it owns goes with it."""
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
    }
