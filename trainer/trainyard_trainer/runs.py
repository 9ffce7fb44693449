"""The runs that lie in a storage. No torch here: the client looks for them, too."""

from trainyard_operator.layout import RUN_FILE, run_prefix
from trainyard_trainer.storage import Storage


def newest_run(root: Storage, namespace: str, job: str) -> str | None:
    """The uid of a job's run that began last; None where there is none.

    root: spec.storage, below which all runs lie.
    """
    runs = [
        entry
        for entry in root.list(f"{namespace}/{job}/")
        if entry.key == f"{run_prefix(namespace, job, _uid(entry.key))}/{RUN_FILE}"
    ]
    newest = max(runs, key=lambda entry: (entry.modified, entry.key), default=None)
    return _uid(newest.key) if newest else None


def _uid(key: str) -> str:
    return key.split("/")[2]
