"""Weights from another job to begin with: spec.checkpoint.resumeFrom."""

from collections.abc import Mapping
from typing import Any

from trainyard_operator.layout import MODEL_FILE
from trainyard_trainer.distributed import World
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.initial_source import source_of
from trainyard_trainer.manifest import Manifest
from trainyard_trainer.restore import find_manifest, load_part
from trainyard_trainer.storage import Storage


def initial_weights(
    root: Storage, namespace: str, resume_from: Mapping[str, Any], world: World
) -> Any:
    """The weights of a checkpoint of another job, by module.

    root: spec.storage, in which both jobs lie. Raises ConfigurationError, CheckpointNotFound.
    """
    job, which = str(resume_from["job"]), str(resume_from.get("checkpoint") or "latest")

    def choose() -> tuple[str, Manifest]:
        prefix = source_of(root, namespace, job)
        return prefix, find_manifest(root.child(prefix), which)

    prefix, manifest = world.gang.from_first(choose)
    weights = manifest.weights
    if weights is None:
        raise ConfigurationError(
            f"spec.checkpoint.resumeFrom: step {manifest.step} of '{job}' has no {MODEL_FILE}."
        )
    return load_part(root.child(prefix), manifest, weights, world.gang)
