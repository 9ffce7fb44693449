"""Runs gangs of forked ranks, one after the other: `python gang.py DIRECTORY PHASES.json`.

Torch is imported once, with what the first step pulls in. Prints each phase's exit codes as JSON.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401
from unit.engine.tiny import tiny_rank

from trainyard_trainer.context import StorageLocation
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.storage import Patience
from trainyard_trainer.worker import run_rank


def run_gangs(directory: Path, phases: list[dict[str, Any]]) -> tuple[list[list[int]], str]:
    """Exit codes of every rank in every phase, and all that was logged."""
    (directory / "phases.json").write_text(json.dumps(phases))
    found = subprocess.run(
        [sys.executable, __file__, str(directory), str(directory / "phases.json")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    codes: list[list[int]] = json.loads(found.stdout.splitlines()[-1])
    return codes, found.stderr


def main(directory: Path, phases: list[dict[str, Any]]) -> None:
    codes = [run_phase(directory, dict(phase)) for phase in phases]
    print(json.dumps(codes))


def run_phase(directory: Path, phase: dict[str, Any]) -> list[int]:
    nodes, port = phase.pop("nodes"), free_port()
    importlib.import_module(phase.pop("module", "unit.engine.tiny"))
    place = directory / phase.pop("place")
    if storage := phase.pop("storage", None):
        patience = Patience(**storage.pop("patience"))
        phase["storage"] = StorageLocation(**storage, patience=patience)
    pids = []
    for index in range(nodes):
        pid = os.fork()
        if pid == 0:
            live(tiny_rank(place, gang=(nodes, index, port), **phase))
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def live(rank: Any) -> None:
    signal.alarm(60)
    sys.stdout = sys.stderr
    code = 1
    try:
        code = run_rank(rank)
    except TrainyardError as error:
        print(f"rank {rank.global_rank}: {error}", file=sys.stderr)
        code = int(error.exit_code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
