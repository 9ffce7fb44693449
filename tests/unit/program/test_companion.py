"""A program of any image beside its companion, as processes."""

import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import WAIT_SECONDS
from unit.program.trial import PYTHON, Trial, make_trial

from trainyard_operator.contract import Cause, ExitCode

pytestmark = pytest.mark.slow

BEGIN = """
import os, pathlib, sys, time
file = pathlib.Path(os.environ["TRAINYARD_CHECKPOINT_DIR"], "count")
count = int(file.read_text()) if file.exists() else 0
print("began with", count)
"""
COUNT = BEGIN + "file.write_text(str(count + 1))\n"
WAIT = (
    BEGIN
    + """
print("waiting", flush=True)
file.write_text(str(count + 1))
time.sleep(60)
"""
)
SAVE_WHEN_TOLD = """
import os, pathlib, signal, sys, time
file = pathlib.Path(os.environ["TRAINYARD_CHECKPOINT_DIR"], "told")
def save(*_):
    file.write_text("saved")
    sys.exit(1)  # As torchrun does.
signal.signal(signal.SIGTERM, save)
print("waiting", flush=True)
time.sleep(60)
"""


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    trial = make_trial(tmp_path)
    yield trial
    if trial.process is not None:
        trial.process.kill()
        trial.process.wait()


def test_logs_directory_and_last_words_outlive_a_program_that_ends_well(trial):
    summary = trial.finish(*PYTHON, COUNT)
    assert (summary.exit_code, summary.message) == (0, "rank 0 ended well")
    assert summary.report["latest"]["uri"] == (trial.run / "directory/a1/000001").as_uri()
    assert summary.report["kept"] == 1
    assert trial.log() == ["began with 0"]
    assert trial.copies() == ["directory/a1/000001/manifest.json"]


def test_the_next_attempt_finds_the_directory_as_it_was(trial):
    for count in range(3):
        trial.finish(*PYTHON, COUNT)
        assert trial.log() == [f"began with {count}"]


def test_a_failure_is_told_with_its_last_lines(trial):
    began = time.time()
    summary = trial.finish(*PYTHON, "print('here'); raise ValueError('no luck')")
    assert summary.exit_code == 1
    assert summary.message == "rank 0 exited with code 1: ValueError: no luck"
    assert (summary.cause, summary.rank) == (None, 0)
    assert summary.log_tail[0] == "here"
    assert summary.log_tail[-1] == "ValueError: no luck"
    assert began < summary.ended < time.time()


def test_what_a_program_was_writing_as_it_died_is_not_taken_for_a_checkpoint(trial):
    summary = trial.finish(*PYTHON, COUNT + "os.kill(os.getpid(), 9)")
    assert summary.message == (
        "rank 0 was killed by SIGKILL; if memory ran out, raise resources.limits.memory"
    )
    assert summary.exit_code == 137
    assert trial.copies() == []


def test_what_had_been_quiet_is_stored_while_the_program_runs(trial):
    trial.start(*PYTHON, WAIT, checkpoint={"everySeconds": 1})
    assert trial.wait_for(trial.copies) == ["directory/a1/000001/manifest.json"]
    trial.wait_for(lambda: trial.report().get("latest"))
    trial.process.send_signal(signal.SIGTERM)
    assert trial.process.wait(timeout=WAIT_SECONDS) == ExitCode.CHECKPOINTED
    summary = trial.summary()
    assert (summary.message, summary.cause) == ("stopped on request", Cause.CHECKPOINTED)


def test_what_is_saved_on_a_request_to_stop_is_stored(trial):
    trial.start(*PYTHON, SAVE_WHEN_TOLD, logs={"flushSeconds": 1})
    assert trial.wait_for(trial.log) == ["waiting"]
    trial.process.send_signal(signal.SIGTERM)
    assert trial.process.wait(timeout=WAIT_SECONDS) == ExitCode.CHECKPOINTED
    assert trial.copies() == ["directory/a1/000001/manifest.json"]
    trial.finish(*PYTHON, "import os; print(os.listdir(os.environ['TRAINYARD_CHECKPOINT_DIR']))")
    assert trial.log() == ["['told']"]


def test_a_directory_of_which_no_copy_verifies_fails_loudly(trial):
    trial.finish(*PYTHON, COUNT)
    (trial.run / "directory/a1/000001/00000").write_text("2")
    summary = trial.finish(*PYTHON, COUNT)
    assert (summary.exit_code, summary.cause) == (ExitCode.CONFIGURATION, Cause.CONFIGURATION)
    assert "and none can be used, the newest because: " in summary.message
    assert trial.log() == []


def test_a_command_that_is_not_there_is_a_mistake_of_the_spec(trial):
    summary = trial.finish("trian.py")
    assert summary.exit_code == ExitCode.CONFIGURATION
    assert summary.message == (
        "spec.command: cannot start 'trian.py' (No such file or directory); correct it, or "
        "spec.image"
    )


def test_progress_is_taken_from_the_file_and_a_mistake_in_it_is_told_once(trial):
    trial.start(*PYTHON, WAIT)
    trial.wait_for(trial.shared.joinpath("ready").exists)
    file = trial.shared / "progress.json"
    file.write_text('{"stepp": 1}')
    output = trial.folder / "output"
    complaint = "TRAINYARD_PROGRESS_FILE: unknown key 'stepp'; there are "
    trial.wait_for(lambda: complaint in output.read_text())
    file.write_text(json.dumps({"step": 30, "steps": 120, "metrics": {"loss": 0.25}}))
    report = trial.wait_for(lambda: trial.report().get("progress") and trial.report())
    assert report["progress"] == {
        "step": 30,
        "steps": 120,
        "percent": 25,
        "metrics": {"loss": "0.25"},
    }
    assert output.read_text().count(complaint) == 1


def post(url: str, body: dict, token: str = "") -> int:
    """As urllib does it in Transformers' callback."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = json.dumps(body).encode("utf-8")
    request = urllib.request.Request(url, data=data, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=5, context=None) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_progress_is_taken_as_kubeflow_callbacks_post_it(trial):
    trial.start(*PYTHON, WAIT)
    trial.wait_for(trial.shared.joinpath("ready").exists)
    url = f"http://127.0.0.1:{trial.port}/kubeflow"
    metrics = {"loss": 0.5, "current_step": 10, "total_steps": 40, "current_epoch": 1.25}
    status = {
        "lastUpdatedTime": "2026-01-01T00:00:00+00:00",
        "progressPercentage": 25,
        "estimatedRemainingSeconds": 90,
        "metrics": [{"name": name, "value": str(value)} for name, value in metrics.items()],
    }
    token = (trial.shared / "token").read_text()
    assert post(url, {"trainerStatus": status}, "guessed") == 401
    assert post(url, {"trainerStatus": status}, token) == 200
    report = trial.wait_for(lambda: trial.report().get("progress") and trial.report())
    assert report["progress"].pop("estimatedCompletionTime") > "2026"
    assert report["progress"] == {
        "percent": 25,
        "step": 10,
        "steps": 40,
        "epoch": 1,
        "metrics": {"loss": "0.5"},
    }
    assert post(f"http://127.0.0.1:{trial.port}/program", {"step": 11}) == 200
    assert post(f"http://127.0.0.1:{trial.port}/program", {"step": -1}) == 400
    trial.wait_for(lambda: trial.report()["progress"]["step"] == 11)


def test_a_program_that_stops_reporting_steps_is_ended_as_stalled(trial):
    report_once = """
import os, pathlib, time
pathlib.Path(os.environ["TRAINYARD_PROGRESS_FILE"]).write_text('{"step": 3}')
time.sleep(60)
"""
    summary = trial.finish(*PYTHON, report_once, stall_timeout_seconds=1)
    assert summary.cause == Cause.STALLED
    assert re.fullmatch(r"rank 0 reported no step for \d+ s", summary.message)


def test_in_a_pod_the_two_meet_through_the_shared_folder_alone(trial):
    companion, program = trial.start_as_pod(*PYTHON, COUNT)
    assert program.wait(timeout=WAIT_SECONDS) == 0
    assert trial.summary().message == "rank 0 ended well"
    assert companion.poll() is None, "a sidecar that ends early is started again"
    companion.send_signal(signal.SIGTERM)
    assert companion.wait(timeout=WAIT_SECONDS) == 0
    assert trial.copies() == ["directory/a1/000001/manifest.json"]
    assert trial.log() == ["began with 0"]


def test_what_was_quiet_is_stored_where_the_programs_container_is_gone(trial):
    companion, program = trial.start_as_pod(*PYTHON, WAIT)
    trial.wait_for(lambda: list(trial.checkpoint.glob("*")))
    program.kill()
    companion.send_signal(signal.SIGTERM)
    assert companion.wait(timeout=WAIT_SECONDS) == 0
    assert trial.copies() == [], "it was written a moment ago"
    trial.wait_for(lambda: "began with 0" in trial.log())


def test_a_companion_that_is_killed_goes_on_where_it_was(trial):
    companion, program = trial.start_as_pod(*PYTHON, WAIT)
    trial.wait_for(lambda: list(trial.checkpoint.glob("*")))
    companion.kill()
    companion.wait()
    trial.attempt -= 1  # The same attempt, and pod.
    trial.start()
    trial.wait_for(lambda: (trial.shared / "lives").read_text() == "2")
    program.send_signal(signal.SIGTERM)
    assert program.wait(timeout=WAIT_SECONDS) == ExitCode.CHECKPOINTED
    assert trial.copies() == ["directory/a1/100001/manifest.json"]
    trial.process.send_signal(signal.SIGTERM)
    assert trial.process.wait(timeout=WAIT_SECONDS) == 0
    assert trial.log() == ["began with 0", "waiting"]
