"""Jobs that have told more than a status holds."""

from pathlib import Path
from typing import Any

import pytest

from trainyard.jobs import Job
from trainyard.local.runner import LocalRunner, StopRequest
from trainyard.locate import storage_command
from trainyard.sdk import JobHandle
from trainyard.state import LocalJob
from trainyard_operator.api import TrainingJob
from trainyard_operator.status import HISTORY_LENGTH, parse_status


def job_with(first: int, last: int) -> dict[str, Any]:
    """Whose history holds these lines of its story."""
    history = [
        {"time": "2026-03-01T12:00:00Z", "attempt": 1, "type": "Restarted", "reason": "UserExit"}
        | {"message": f"line {number}"}
        for number in range(first, last)
    ]
    return {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "digits", "uid": "u1"},
        "spec": {"command": ["true"]},
        "status": {"phase": "Running", "attempt": 1, "history": history},
    }


def test_the_sdk_tells_each_line_once_when_older_ones_have_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = [Job(job_with(first, first + HISTORY_LENGTH)) for first in (0, 0, 2)]
    monkeypatch.setattr("trainyard.follow.changes", lambda _: iter(states))
    told = list(JobHandle(states[0]).watch())
    assert told == [f"line {number}" for number in range(HISTORY_LENGTH + 2)]


def test_a_runner_that_takes_up_a_long_story_keeps_it(tmp_path: Path) -> None:
    local = LocalJob(tmp_path / "u1")
    local.save(stored := job_with(0, HISTORY_LENGTH))
    job = TrainingJob.model_validate({k: v for k, v in stored.items() if k != "status"})
    LocalRunner(local, job, StopRequest())._take_up()
    history = parse_status(local.object["status"]).history
    assert [entry.message for entry in (history[0], history[-1])] == [
        "line 1",
        "The runner on this machine had ended; going on.",
    ]


def test_a_command_can_be_pasted_whatever_the_uri_holds() -> None:
    assert storage_command("fetch", "digits", None, {"uri": "s3://lab/my runs;x"}) == (
        "trainyard fetch digits --storage 's3://lab/my runs;x'"
    )
