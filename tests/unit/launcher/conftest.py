import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port
from unit.launcher.nodes import Launch, Planner

HERE = Path(__file__).parent
_LAUNCH = """
import os, sys
from trainyard_trainer import launcher, supervisor
for module, name in ((launcher, "STANDBY_SECONDS"), (supervisor, "BLAME_SECONDS")):
    setattr(module, name, float(os.environ.get(name, getattr(module, name))))
os._exit(launcher.launch(os.environ, sys.argv[1], ()))
"""


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start a launcher as a pod does, with a worker of `trainees.py` and without torch."""
    started = []

    def start(trainee: str, environ: dict[str, str]) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(HERE), *sys.path])
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, f"trainees:{trainee}"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def planner() -> Planner:
    """Of the launcher that is started with its `environ`."""
    return Planner(free_port())
