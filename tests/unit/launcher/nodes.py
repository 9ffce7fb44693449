"""Builders of what a launcher is given."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainyard_operator.contract import Env
from trainyard_trainer.context import RunContext

Launch = Callable[[str, dict[str, str]], "subprocess.Popen[str]"]
"""Starts a launcher whose ranks run a function of `trainees.py`."""
RUN_PREFIX = "research/nodules/uid-1"


def make_environ(folder: Path, *, ranks: int = 2, **request: Any) -> dict[str, str]:
    """The environment of the only node of a job, everything below `folder`."""
    return {
        Env.JOB: "nodules",
        Env.NAMESPACE: "research",
        Env.JOB_UID: "uid-1",
        Env.ATTEMPT: "1",
        Env.NODES: "1",
        Env.NODE_INDEX: "0",
        Env.PROCESSES_PER_NODE: str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "23456",
        Env.SCRATCH: str(folder / "scratch"),
        Env.TERMINATION_LOG: str(folder / "termination-log"),
        Env.STORAGE_URI: (folder / "storage").as_uri(),
        Env.RUN: json.dumps({"recipe": "classification", **request}),
    }


def make_run(folder: Path, *, ranks: int = 2, **request: Any) -> RunContext:
    """The same, read."""
    return RunContext.from_environ(make_environ(folder, ranks=ranks, **request))
