"""Forks processes that save one checkpoint, and dies with none of them: `python saver.py`.

Reads requests as lines of JSON {"uri", "endpoint", "step", "elements", "die_at"}; answers each with
the saver's process id, then with its exit status and the number of file operations it has made.
Torch is imported once. die_at: the file operation before which the saver kills itself.
"""

import json
import os
import signal
import sys
from functools import partial
from typing import Any, NoReturn

import torch

from trainyard_trainer import s3
from trainyard_trainer.checkpoint import Checkpointer, Identity, Position, Retention
from trainyard_trainer.s3_stream import S3Writer
from trainyard_trainer.storage import open_storage

PART_BYTES = 5 * 2**20
"""Of an upload: the least that S3 takes, so that a small checkpoint has several parts."""
FILE_OPERATIONS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}


def state_at(step: int, elements: int) -> dict[str, Any]:
    """A function of the step alone."""
    weights = torch.arange(elements, dtype=torch.float32) + step
    return {"model": {"w": weights}, "optimizer": {"m": torch.full((50,), float(step))}}


def make_checkpointer(uri: str, endpoint: str | None, attempt: int = 1) -> Checkpointer:
    """Keeps one checkpoint, so that a save ends with the deletion of the one before."""
    storage = open_storage(uri, endpoint=endpoint, compat="strict")
    identity = Identity(namespace="n", job="j", uid="u", attempt=attempt)
    return Checkpointer(storage, identity, keep=Retention(last=1))


class Operations:
    """Counts changes below a folder as Python reports them, and syncs; kills before one of them."""

    def __init__(self, folder: str, die_at: int | None, report: int) -> None:
        self._folder, self._die_at, self._report = folder, die_at, report
        self.count = 0

    def watch(self) -> None:
        """From now on."""
        sys.addaudithook(self._notice)
        sync = os.fsync

        def counted(descriptor: int) -> None:
            self.meet()
            sync(descriptor)
            self.meet()

        os.fsync = counted  # type: ignore[assignment]

    def meet(self) -> None:
        """One more operation."""
        if self.count == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        os.pwrite(self._report, b"%8d" % self.count, 0)

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_OPERATIONS and str(arguments[0]).startswith(self._folder):
            self.meet()


def save(request: dict[str, Any], report: int) -> NoReturn:
    """The whole life of a saver."""
    code = 1
    s3.S3Writer = partial(S3Writer, part_bytes=PART_BYTES)  # type: ignore[assignment, misc]
    try:
        checkpointer = make_checkpointer(request["uri"], request.get("endpoint"))
        if request["uri"].startswith("file://"):
            folder = request["uri"].removeprefix("file://")
            Operations(folder, request.get("die_at"), report).watch()
        step = request["step"]
        state = state_at(step, request["elements"])
        code = int(not checkpointer.save(Position(step=step), state, {}, blocking=True))
    finally:
        os._exit(code)


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        report = os.memfd_create("operations")
        os.pwrite(report, b"%8d" % 0, 0)
        pid = os.fork()
        if pid == 0:
            save(json.loads(line), report)
        print(pid, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(code, int(os.pread(report, 8, 0)), flush=True)
        os.close(report)


if __name__ == "__main__":
    main()
