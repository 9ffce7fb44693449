"""The local runner with tiny programs in place of training."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import WAIT_SECONDS

from trainyard_operator.desired import GRACE_SECONDS

pytestmark = pytest.mark.slow

CRASH_ONCE = """
import os, sys, time
attempt, rank = os.environ["TRAINYARD_ATTEMPT"], os.environ["RANK"]
while (attempt, rank) == ("1", "1") and not os.path.exists("begun"):
    time.sleep(0.01)
print(f"rank {rank} of attempt {attempt}", flush=True)
open("begun", "w").close()
if (attempt, rank) == ("1", "1"):
    sys.exit(3)
if attempt == "1":
    time.sleep(60)
"""
PATIENT = """
import json, os, signal, sys, time
def stop(*_):
    with open(os.environ["TRAINYARD_PROGRESS_FILE"], "w") as file:
        json.dump({"step": 7}, file)
    open(os.environ["TRAINYARD_CHECKPOINT_DIR"] + "/weights", "w").close()
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
open(os.environ["TRAINYARD_SCRATCH"] + "/listens", "w").close()
time.sleep(0 if os.path.exists("finish") else 60)
"""
QUICK = {"runPolicy": {"restartBackoff": {"initialSeconds": 0}, "maxRestarts": 1}}


def start(*arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "trainyard.cli", "run", *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until_ready(place: Path, attempt: int, count: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while len(list(place.glob(f"state/trainyard/jobs/*/*/a{attempt}/*/listens"))) < count:
        assert time.monotonic() < deadline, "the processes did not start"
        time.sleep(0.05)


def wait_until_stopping(place: Path) -> None:
    """Until the runner has heard the first request."""
    deadline = time.monotonic() + WAIT_SECONDS
    (file,) = place.glob("state/trainyard/jobs/*/*/job.json")
    while json.loads(file.read_text())["status"]["phase"] != "Suspended":
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.05)


def of_ranks(log: str) -> list[str]:
    """Without the launchers' own lines."""
    return [line for line in log.splitlines() if not line.startswith("[node ")]


def test_one_crash_restarts_the_whole_gang(write_job, trainyard) -> None:
    job = write_job(Path("job.yaml"), CRASH_ONCE, nodes=2, **QUICK)
    ran = trainyard("run", job)
    assert ran.code == 0
    assert ran.out.startswith("job: Succeeded in ")
    assert ran.out.endswith(", 2 attempts\n")
    status = json.loads(trainyard("get", "@last", "-o", "json").out)["status"]
    assert (status["attempt"], status["restarts"]["user"]) == (2, 1)
    assert status["failure"]["pod"] == "job-worker-0"
    logs = trainyard("logs", "@last", "--rank", "all")
    assert of_ranks(logs.out) == [
        "[1/0] rank 0 of attempt 1",
        "[1/1] rank 1 of attempt 1",
        "[2/0] rank 0 of attempt 2",
        "[2/1] rank 1 of attempt 2",
    ]


def test_a_job_that_fails_too_often_gives_its_exit_code(write_job, trainyard) -> None:
    program = "import sys; print('no such GPU'); sys.exit(9)"
    ran = trainyard("run", write_job(Path("job.yaml"), program, **QUICK))
    assert ran.code == 10
    assert "error: job failed: Rank 0 (pod job-master-0, node localhost) exited" in ran.err
    assert ran.err.endswith("  | no such GPU\nhelp: trainyard logs job --failed\n")
    assert of_ranks(trainyard("logs", "job", "--failed").out) == ["no such GPU"]
    again = trainyard("run", "job.yaml")
    assert "the last run of job failed; a new one begins at step 0\n" in again.err


def test_a_program_that_is_not_there_fails_with_its_name(write_job, trainyard) -> None:
    job = write_job(Path("job.yaml"), **QUICK, command=["no-such-program"])
    ran = trainyard("run", job)
    assert ran.code == 10
    assert (
        "spec.command: cannot start 'no-such-program' (No such file or directory); correct it, or "
        "spec.image.\n"
    ) in ran.err


def test_ctrl_c_saves_and_the_same_command_goes_on(write_job, trainyard, place: Path) -> None:
    job = write_job(Path("job.yaml"), PATIENT, nodes=2)
    runner = start(job)
    wait_until_ready(place, 1, 2)
    runner.send_signal(signal.SIGINT)
    out, err = runner.communicate(timeout=WAIT_SECONDS)
    assert (runner.returncode, out) == (130, "")
    assert err.endswith(
        "error: job stopped at step 7; checkpoint saved\nhelp: trainyard run job.yaml\n"
    )
    stopped = json.loads(trainyard("get", "job", "-o", "json").out)
    Path("finish").touch()
    ran = trainyard("run", job)
    assert ran.code == 0
    assert "going on with job, stopped after step 7; --fresh begins anew\n" in ran.err
    ended = json.loads(trainyard("get", "job", "-o", "json").out)
    assert ended["metadata"]["uid"] == stopped["metadata"]["uid"]
    assert (stopped["status"]["phase"], ended["status"]["attempt"]) == ("Suspended", 2)


def test_a_second_ctrl_c_ends_what_does_not_listen(write_job, place: Path) -> None:
    deaf = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "open(os.environ['TRAINYARD_SCRATCH'] + '/listens', 'w').close(); time.sleep(60)"
    )
    runner = start(write_job(Path("job.yaml"), deaf))
    wait_until_ready(place, 1, 1)
    runner.send_signal(signal.SIGINT)
    wait_until_stopping(place)
    runner.send_signal(signal.SIGINT)
    _, err = runner.communicate(timeout=GRACE_SECONDS - 10)
    assert runner.returncode == 130
    assert "job stopped; there is no checkpoint yet" in err


def test_nothing_outlives_a_runner_that_is_killed(write_job, trainyard, place: Path) -> None:
    job = write_job(Path("job.yaml"), PATIENT)
    runner = start(job)
    wait_until_ready(place, 1, 1)
    pid_file = next(place.glob("state/trainyard/jobs/*/*/a1/*/process.pid"))
    pid = int(pid_file.read_text().split()[0])
    runner.kill()
    runner.communicate()
    deadline = time.monotonic() + WAIT_SECONDS
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    assert "its runner on this machine ended" in trainyard("get", "job").out
    Path("finish").touch()
    assert trainyard("run", job).code == 0
    status = json.loads(trainyard("get", "job", "-o", "json").out)["status"]
    assert (status["attempt"], status["restarts"]["user"]) == (2, 0)


def test_a_second_runner_of_the_same_job_is_refused(write_job, trainyard, place: Path) -> None:
    job = write_job(Path("job.yaml"), PATIENT)
    runner = start(job)
    wait_until_ready(place, 1, 1)
    ran = trainyard("run", job)
    runner.send_signal(signal.SIGTERM)
    runner.communicate(timeout=WAIT_SECONDS)
    assert ran.code == 1
    assert f"error: 'job' already runs on this machine, process {runner.pid}\n" in ran.err


def test_a_finished_job_is_run_anew(write_job, trainyard) -> None:
    job = write_job(Path("job.yaml"), "pass")
    uids = set()
    for _ in range(2):
        assert trainyard("run", job).code == 0
        uids.add(json.loads(trainyard("get", "job", "-o", "json").out)["metadata"]["uid"])
    assert len(uids) == 2


def test_a_process_gets_the_environment_of_a_pod(write_job, trainyard) -> None:
    program = (
        "import json, os; print(json.dumps({k: v for k, v in os.environ.items() "
        "if k.startswith(('TRAINYARD_', 'MASTER_', 'PET_')) or k in ('RANK', 'WORLD_SIZE')}))"
    )
    assert trainyard("run", write_job(Path("job.yaml"), program, nodes=2)).code == 0
    lines = of_ranks(trainyard("logs", "job", "--rank", "all").out)
    first, second = (json.loads(line.partition(" ")[2]) for line in lines)
    assert (first["RANK"], second["RANK"], second["WORLD_SIZE"]) == ("0", "1", "2")
    assert first["MASTER_ADDR"] == second["PET_MASTER_ADDR"] == "127.0.0.1"
    assert first["MASTER_PORT"] == second["PET_MASTER_PORT"] != "23456"
    assert Path(first["TRAINYARD_SCRATCH"]).is_dir()
    assert first["TRAINYARD_STORAGE_URI"] == (Path.cwd() / "runs").as_uri()


def test_a_dry_run_starts_nothing(write_job, trainyard, place: Path) -> None:
    ran = trainyard("run", write_job(Path("job.yaml"), "pass", nodes=2), "--dry-run")
    assert (ran.code, ran.out) == (
        0,
        "create service/job\ncreate pod/job-master-0\ncreate pod/job-worker-0\n",
    )
    assert not (place / "state").exists()


def test_delete_asks_before_it_forgets(write_job, trainyard) -> None:
    trainyard("run", write_job(Path("job.yaml"), "pass"))
    refused = trainyard("delete", "job")
    assert (refused.code, refused.out) == (2, "")
    assert "help: trainyard delete job -y\n" in refused.err
    assert trainyard("delete", "job", "-y").code == 0
    assert trainyard("get", "job").code == 3


def test_following_in_json_is_a_line_for_each_change(write_job, trainyard) -> None:
    ran = trainyard("run", write_job(Path("job.yaml"), "pass"), "-o", "json")
    changes = [json.loads(line) for line in ran.out.splitlines()]
    assert (ran.code, ran.err) == (0, "")
    assert {change["name"] for change in changes} == {"job"}
    assert changes[-1]["status"]["phase"] == "Succeeded"
