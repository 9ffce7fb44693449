"""Runs gangs of forked ranks, one after the other.

A test's process starts one server, which imports torch once, with what the first step pulls in,
and forks from there: `python gang.py`, with a request on each line. Alone:
`python gang.py DIRECTORY PHASES.json` prints each phase's exit codes as JSON.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401
from patience import HANG_SECONDS
from ports import free_port
from unit.engine.tiny import tiny_rank

from trainyard_trainer.context import StorageLocation
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.storage import Patience
from trainyard_trainer.worker import run_rank

TINY = "unit.engine.tiny"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Of each rank: two would share a core, and round otherwise than on another machine."""


def run_gangs(directory: Path, phases: list[dict[str, Any]]) -> tuple[list[list[int]], str]:
    """Exit codes of every rank in every phase, and all that was logged."""
    server = start_server()
    assert server.stdin and server.stdout
    with tempfile.TemporaryDirectory() as folder:
        request = {"directory": str(directory), "phases": phases, "folder": folder}
        print(json.dumps(request | {"environ": dict(os.environ)}), file=server.stdin, flush=True)
        answer = server.stdout.readline()
        log = Path(folder, "log").read_text()
        assert answer == "0\n", log
        codes: list[list[int]] = json.loads(Path(folder, "codes").read_text())
    return codes, log


@functools.cache
def start_server() -> "subprocess.Popen[str]":
    """Of this process, with which it ends."""
    server = subprocess.Popen(
        [sys.executable, __file__],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | ONE_THREAD,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.kill)
    return server


def serve() -> None:
    """Answer each request with the exit code of the process that saw to it."""
    for line in sys.stdin:
        request = json.loads(line)
        for phase in request["phases"]:
            module = phase.get("call", phase.get("module", TINY)).partition(":")[0]
            with contextlib.suppress(Exception):  # It is told where it is imported again.
                importlib.import_module(module)
        pid = os.fork()
        if pid == 0:
            conduct(**request)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def conduct(
    directory: str, phases: list[dict[str, Any]], folder: str, environ: dict[str, str]
) -> None:
    """A request; does not return."""
    code = 1
    try:
        signal.alarm(int(HANG_SECONDS))
        log = os.open(f"{folder}/log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, sys.stdout.fileno())
        os.dup2(log, sys.stderr.fileno())
        os.environ.clear()
        os.environ.update(environ | ONE_THREAD)
        codes = [run_phase(Path(directory), phase) for phase in phases]
        Path(folder, "codes").write_text(json.dumps(codes))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(directory: Path, phases: list[dict[str, Any]]) -> None:
    """Of the script."""
    print(json.dumps([run_phase(directory, phase) for phase in phases]))


def run_phase(directory: Path, phase: dict[str, Any]) -> list[int]:
    """A training of forked ranks; or, with `call`, a function in each of them."""
    nodes = phase.pop("nodes")
    if "call" in phase:
        return fork_ranks(nodes, partial(call, directory, nodes, **phase))
    port = free_port()
    importlib.import_module(phase.pop("module", TINY))
    place = directory / phase.pop("place")
    if source := phase.pop("copy_of", None):
        shutil.copytree(directory / source, place)
    if storage := phase.pop("storage", None):
        patience = Patience(**storage.pop("patience"))
        phase["storage"] = StorageLocation(**storage, patience=patience)
    return fork_ranks(
        nodes, lambda rank: run_rank(tiny_rank(place, gang=(nodes, rank, port), **phase))
    )


def call(directory: Path, ranks: int, rank: int, *, call: str, arguments: list[Any]) -> int:
    """`<module>:<function>` of the arguments, rank and number of ranks; leaves what it returns."""
    module, _, name = call.partition(":")
    found = getattr(importlib.import_module(module), name)(*arguments, rank, ranks)
    (directory / f"answer-{rank}.json").write_text(json.dumps(found))
    return 0


def fork_ranks(ranks: int, life: Callable[[int], int]) -> list[int]:
    """Exit code of each."""
    pids = []
    for rank in range(ranks):
        pid = os.fork()
        if pid == 0:
            live(rank, life)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def live(rank: int, life: Callable[[int], int]) -> None:
    signal.alarm(int(HANG_SECONDS))
    sys.stdout = sys.stderr
    code = 1
    try:
        code = life(rank)
    except TrainyardError as error:
        print(f"rank {rank}: {error}", file=sys.stderr)
        code = int(error.exit_code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1:]:
        main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
    else:
        serve()
