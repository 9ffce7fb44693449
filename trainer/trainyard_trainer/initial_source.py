"""The run that spec.checkpoint.resumeFrom names. No torch here."""

from trainyard_operator.layout import run_prefix
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.runs import newest_run
from trainyard_trainer.storage import Storage


def source_of(root: Storage, namespace: str, job: str) -> str:
    """Prefix of the job's newest run. Raises ConfigurationError."""
    uid = newest_run(root, namespace, job)
    if uid is None:
        place = root.uri_of(f"{namespace}/{job}/")
        raise ConfigurationError(
            f"spec.checkpoint.resumeFrom.job: '{place}' holds no run of '{job}'; correct the "
            "name, or use the storage that it used."
        )
    return run_prefix(namespace, job, uid)
