"""The other side of saver.py: have a process save, and hear how it ended."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

SCRIPT = Path(__file__).with_name("saver.py")


class Ended(NamedTuple):
    """A saver's end."""

    code: int
    """Negative: minus the number of the signal."""
    operations: int
    """On files, until then."""


class Savers:
    """One process that forks them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def save(
        self, uri: str, step: int, tell: Callable[[int], None] = lambda _: None, **request: Any
    ) -> Ended:
        """Save one checkpoint; `tell` is called with the saver's process id."""
        assert self._process.stdin and self._process.stdout
        defaults = {"uri": uri, "step": step, "elements": 100}
        print(json.dumps(defaults | request), file=self._process.stdin, flush=True)
        tell(int(self._process.stdout.readline()))
        code, operations = self._process.stdout.readline().split()
        return Ended(int(code), int(operations))


@contextmanager
def start_savers() -> Iterator[Savers]:
    """Ended with the block."""
    path = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Savers(process)
        finally:
            assert process.stdin
            process.stdin.close()
