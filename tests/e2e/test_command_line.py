"""The trainyard command on a cluster: submit, watch, get, logs, and their exit codes."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from demo.jobs import write_job
from e2e.kube import TRAINYARD, Namespace

SUCCEEDED, FAILED = 0, 10


def run(namespace: Namespace, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """One command; its exit code is the claim."""
    command = [TRAINYARD, *arguments, "-n", namespace.name]
    return subprocess.run(
        command, env=namespace.environment, check=False, capture_output=True, text=True, timeout=200
    )


@pytest.fixture(scope="module")
def submitted(
    namespace: Namespace, tmp_path_factory: pytest.TempPathFactory, make_short_job: Any
) -> str:
    """A short job, submitted from its file."""
    path = write_job(make_short_job("short"), tmp_path_factory.mktemp("job") / "job.yaml")
    done = run(namespace, "submit", str(path))
    assert (done.returncode, done.stdout) == (SUCCEEDED, "short\n"), done.stderr
    return "short"


def test_watch_ends_with_the_jobs_exit_code(namespace: Namespace, submitted: str) -> None:
    watched = run(namespace, "watch", submitted)
    assert watched.returncode == SUCCEEDED, watched.stderr
    assert "Succeeded" in watched.stdout + watched.stderr
    assert run(namespace, "get", submitted, "-o", "name").returncode == SUCCEEDED


def test_get_tells_the_story_and_what_to_type_next(namespace: Namespace, submitted: str) -> None:
    run(namespace, "watch", submitted)
    story = run(namespace, "get", submitted).stdout
    assert "Attempt 1 runs: 2 nodes, 2 ranks." in story
    assert "trainyard fetch short" in story
    table = run(namespace, "get").stdout.splitlines()
    assert table[0].split()[:3] == ["NAME", "PHASE", "PROGRESS"]


def test_logs_come_from_the_pods_and_name_each_rank(namespace: Namespace, submitted: str) -> None:
    run(namespace, "watch", submitted)
    first = run(namespace, "logs", submitted, "--rank", "0")
    other = run(namespace, "logs", submitted, "--rank", "1")
    assert "Rank 0 is done at step" in first.stdout, first.stderr
    assert "Rank 1 is done at step" in other.stdout, other.stderr


def test_json_is_one_document(namespace: Namespace, submitted: str) -> None:
    found = json.loads(run(namespace, "get", submitted, "-o", "json").stdout)
    assert found["kind"] == "TrainingJob"
    run(namespace, "watch", submitted)
    listed = json.loads(run(namespace, "checkpoints", submitted, "-o", "json").stdout)
    assert listed


def test_a_job_that_fails_ends_watch_with_10(
    namespace: Namespace, make_short_job: Any, tmp_path: Path
) -> None:
    job = make_short_job("fails", dataset={"uri": "s3://trainyard/datasets/digts"})
    done = run(namespace, "submit", str(write_job(job, tmp_path / "job.yaml")))
    assert done.returncode == SUCCEEDED, done.stderr
    watched = run(namespace, "watch", "fails")
    assert watched.returncode == FAILED
    assert "nothing lies under 's3://trainyard/datasets/digts'" in watched.stderr
    assert "Traceback" not in watched.stderr


def test_an_unknown_job_is_exit_code_3(namespace: Namespace) -> None:
    missing = run(namespace, "get", "nowhere")
    assert missing.returncode == 3
    assert "nowhere" in missing.stderr
