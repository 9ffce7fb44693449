"""Weights from another job to begin with: spec.checkpoint.resumeFrom."""

from collections.abc import Mapping
from typing import Any

from trainyard_operator.contract import MODEL_FILE, run_prefix
from trainyard_trainer.distributed import World
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.manifest import Manifest
from trainyard_trainer.restore import find_manifest, load_part
from trainyard_trainer.runs import newest_run
from trainyard_trainer.storage import Storage


def initial_weights(
    root: Storage, namespace: str, resume_from: Mapping[str, Any], world: World
) -> Any:
    """The weights of a checkpoint of another job, by module.

    root: spec.storage, in which both jobs lie. Raises ConfigurationError, CheckpointNotFound.
    """
    job, which = str(resume_from["job"]), str(resume_from.get("checkpoint") or "latest")

    def choose() -> tuple[str, Manifest]:
        prefix = _source(root, namespace, job)
        return prefix, find_manifest(root.child(prefix), which)

    prefix, manifest = world.gang.from_first(choose)
    weights = manifest.weights
    if weights is None:
        raise ConfigurationError(
            f"spec.checkpoint.resumeFrom: step {manifest.step} of '{job}' has no {MODEL_FILE}."
        )
    return world.gang.together(lambda: load_part(root.child(prefix), manifest, weights))


def _source(root: Storage, namespace: str, job: str) -> str:
    """Prefix of the job's newest run. Raises ConfigurationError."""
    uid = newest_run(root, namespace, job)
    if uid is None:
        place = root.uri_of(f"{namespace}/{job}/")
        raise ConfigurationError(
            f"spec.checkpoint.resumeFrom.job: '{place}' holds no run of '{job}'; correct the "
            "name, or use the storage that it used."
        )
    return run_prefix(namespace, job, uid)
