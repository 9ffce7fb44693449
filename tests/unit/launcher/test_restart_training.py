"""Training that goes on in place after a SIGKILL: the whole launcher, with torch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import HANG_SECONDS
from ports import free_port
from unit.launcher.nodes import Planner, make_environ

from trainyard_operator.contract import Env, Report, Summary
from trainyard_trainer.context import pid_file
from trainyard_trainer.progress_server import read_report

pytestmark = pytest.mark.slow
PACKAGE = {
    "points-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: points\nVersion: 1\n",
    "points-1.dist-info/entry_points.txt": "[trainyard.recipes]\ntiny = points\n",
    "points/__init__.py": "",
    "points/config.py": "from unit.engine.tiny import Config as Config\n",
    "points/recipe.py": "import unit.engine.tiny\n",
}


class Gang:
    """Launchers of one process each, and what its planner knows of them."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.scratches = [folder / f"node-{index}/scratch" for index in range(nodes)]
        self.planners = [Planner(free_port()) for _ in range(nodes)]
        master_port = str(free_port())
        training = {"batch_size": 8, "epochs": 100_000, "device": "cpu"}
        for name, text in PACKAGE.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        path = os.pathsep.join([str(folder), *sys.path])
        self.processes = []
        for index, planner in enumerate(self.planners):
            environ = make_environ(
                folder,
                ranks=1,
                recipe="tiny",
                config={"training": training},
                checkpoint={"everySteps": 10, "async": False},
            )
            environ |= {
                key: planner.environ(folder)[key] for key in (Env.PROGRESS_PORT, Env.ORDER_TOKEN)
            }
            environ |= {Env.NODES: str(nodes), Env.NODE_INDEX: str(index)}
            environ |= {"MASTER_PORT": master_port, Env.SCRATCH: str(self.scratches[index])}
            environ |= {Env.TERMINATION_LOG: str(folder / f"termination-{index}")}
            environ |= {"PATH": os.environ["PATH"], "PYTHONPATH": path}
            with (folder / f"output-{index}").open("wb") as output:
                command = [sys.executable, "-m", "trainyard_trainer"]
                self.processes.append(
                    subprocess.Popen(command, env=environ, stdout=output, stderr=output)
                )

    def report(self, attempt: int, after_step: int = 0) -> Report:
        """Wait for one of this attempt that is beyond that step."""
        deadline = time.monotonic() + HANG_SECONDS
        while time.monotonic() < deadline:
            assert [process.poll() for process in self.processes] == [None] * len(self.processes)
            report = read_report(self.scratches[0])
            step = (report.progress or {})["step"] if report else 0
            if report and report.attempt == attempt and step > after_step:
                return report
            time.sleep(0.01)
        raise TimeoutError(f"attempt {attempt} came to no step after {after_step}")


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    gang = Gang(tmp_path, nodes=2)
    yield gang
    for process in gang.processes:
        process.kill()
        process.wait()


def test_two_nodes_go_on_from_their_checkpoint_in_place(gang: Gang, tmp_path: Path) -> None:
    port = 0
    for attempt, node in ((1, 1), (2, 0), (3, 1)):
        report = gang.report(attempt, after_step=10)
        os.kill(int(pid_file(gang.scratches[node], node).read_text()), signal.SIGKILL)
        standby = gang.planners[node].standby(HANG_SECONDS)
        assert standby is not None
        assert Summary(**standby.summary).rank == node
        assert "SIGKILL" in standby.summary["message"]
        port = free_port()
        # The other node's rank may still run, or have noticed already.
        assert [p.order(attempt + 1, master_port=port) for p in gang.planners] == [202, 202]
    resumed = gang.report(4, after_step=report.progress["step"] if report.progress else 0)
    assert resumed.resumed_step is not None
    assert resumed.resumed_step >= 10
    gang.processes[0].terminate()
    gang.processes[1].terminate()
    assert [process.wait(HANG_SECONDS) for process in gang.processes] == [75, 75]
    summary = json.loads((tmp_path / "termination-0").read_text())
    assert summary["report"]["attempt"] == 4
