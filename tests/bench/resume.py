"""(e) A checkpoint of 500 MB from a real S3 server back into tensors, beside other clients.

Ours lists the run's manifests, takes the newest, checks every byte against its SHA-256 and loads
it; the others download an object whose name they know and load it unchecked.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from bench.comparison import Row
from bench.s3_client import BUCKET, SIZE_BYTES
from bench.upload import rows, run_in_turns, running_server, running_workers
from cluster.s3 import S3Access

from trainyard_operator.layout import MODEL_FILE, checkpoint_prefix
from trainyard_trainer.checkpoint import Checkpointer, Identity
from trainyard_trainer.storage import open_storage

REPETITIONS = 10


def compare_resume(repetitions: int = REPETITIONS) -> list[Row]:
    """Download alone, then with all that a resume takes."""
    with running_server() as access:
        key = save_checkpoint(access)
        with running_workers(access) as workers:
            run_in_turns(workers, "download", key, repetitions)
        with running_workers(access) as resuming:
            run_in_turns(resuming, "resume", key, repetitions)
    found = rows("download of 500 MB, checked by ours", workers, None)
    return [*found, *rows("resume of a 500 MB checkpoint", resuming, None)]


def save_checkpoint(access: S3Access) -> str:
    """By ours; returns the key of its weights."""
    state = {"model": {"weight": torch.rand(SIZE_BYTES // 4)}}
    identity = Identity(namespace="bench", job="resume", uid="u", attempt=1)
    with environment(access):
        storage = open_storage(f"s3://{BUCKET}", endpoint=access.endpoint)
        checkpointer = Checkpointer(storage, identity)
        if not checkpointer.save(1, state, blocking=True):
            raise RuntimeError(checkpointer.warning)
        checkpointer.close()
    return f"{checkpoint_prefix(1, 1)}/{MODEL_FILE}"


@contextmanager
def environment(access: S3Access) -> Iterator[None]:
    """The server's credentials, for a while."""
    before = dict(os.environ)
    os.environ.update(access.environment())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    for row in compare_resume():
        print("  ".join(row.cells()))
