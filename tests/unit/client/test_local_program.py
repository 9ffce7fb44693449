"""`trainyard run` of a program that knows nothing of Trainyard, with somewhere for its results."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FAILS_ONCE = """
import glob, json, os, pathlib, sys, time
folder = pathlib.Path(os.environ["TRAINYARD_CHECKPOINT_DIR"])
step = int((folder / "step").read_text()) if (folder / "step").exists() else 0
print("begins at step", step)
progress = {"step": step + 5, "steps": 10, "metrics": {"loss": 1 / (step + 5)}}
file = pathlib.Path(os.environ["TRAINYARD_PROGRESS_FILE"])
file.write_text(json.dumps(progress))
report = file.with_name("report.json")
def is_told():
    found = json.loads(report.read_text()) if report.exists() else {}
    return (found.get("progress") or {}).get("step") == step + 5
while not is_told():
    time.sleep(0.01)
(folder / "step").write_text(str(step + 5))
while step == 0:
    time.sleep(0.05)
    if glob.glob("runs/**/directory/*/*/manifest.json", recursive=True):
        sys.exit("no luck")
"""

DIES_AT_ONCE = """
import json, os, pathlib, signal, time
file = pathlib.Path(os.environ["TRAINYARD_PROGRESS_FILE"])
report = file.with_name("report.json")
file.write_text(json.dumps({"step": 1}))
while not report.exists() or not json.loads(report.read_text()).get("progress"):
    time.sleep(0.01)
time.sleep(0.6)
os.kill(os.getppid(), signal.SIGSTOP)  # Else it may write over what follows.
time.sleep(0.1)
told = json.loads(report.read_text())
told["progress"]["step"] = 2
new = report.with_suffix(".new")
new.write_text(json.dumps(told))
os.replace(new, report)
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(60)
"""


def test_a_program_goes_on_from_its_directory_and_leaves_its_logs(
    write_job, trainyard, place: Path
) -> None:
    job = write_job(
        Path("job.yaml"),
        FAILS_ONCE,
        storage={"uri": (place / "runs").as_uri()},
        checkpoint={"everySeconds": 1},
        runPolicy={"restartBackoff": {"initialSeconds": 0}},
    )
    ran = trainyard("run", job)
    assert ran.code == 0
    assert "Rank 0 (pod job-master-0, node localhost) exited with code 1: no luck." in ran.err
    status = json.loads(trainyard("get", "job", "-o", "json").out)["status"]
    assert (status["attempt"], status["progress"]["step"]) == (2, 10)
    assert status["progress"]["resumedStep"] == 5
    assert status["progress"]["metrics"] == {"loss": "0.1"}
    assert status["checkpoints"]["latest"]["step"] == 10
    listed = json.loads(trainyard("checkpoints", "job", "--verify", "-o", "json").out)
    assert [(one["step"], one["verified"]) for one in listed] == [(10, "yes"), (5, "yes")]
    fetched = Path(trainyard("fetch", "job", "latest").out.strip())
    assert (fetched / "step").read_text() == "10"
    said = trainyard("logs", "job").out.splitlines()
    assert [line for line in said if not line.startswith("[node 0] ")] == [
        "begins at step 0",
        "no luck",
        "begins at step 5",
    ]


def test_the_last_report_counts_of_an_attempt_whose_launcher_was_killed(
    write_job, trainyard
) -> None:
    job = write_job(Path("job.yaml"), DIES_AT_ONCE, runPolicy={"maxRestarts": 0})
    assert trainyard("run", job).code == 10
    status = json.loads(trainyard("get", "job", "-o", "json").out)["status"]
    assert status["progress"]["step"] == 2


def test_a_job_that_asks_for_a_tensorboard_runs_here_without_one(
    write_job, trainyard, place: Path
) -> None:
    job = write_job(Path("job.yaml"), "print(1)", tensorBoard={"serve": True})
    assert trainyard("run", job).code == 0
