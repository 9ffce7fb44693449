"""`trainyard run` of a job that was run before: what is said of the last run."""

from pathlib import Path

import pytest

from trainyard.errors import Interrupted
from trainyard.local.runner import LocalRunner, held
from trainyard.state import LocalJob, local_jobs, new_local_job


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: LocalRunner, show: object) -> None:
        raise Interrupted("nothing runs in this test")

    monkeypatch.setattr(LocalRunner, "run", run)


def keep_job(storage: Path, phase: str) -> LocalJob:
    local = new_local_job("job", "before")
    spec = {"command": ["train"], "storage": {"uri": storage.as_uri()}}
    metadata = {"name": "job", "namespace": "default", "uid": "before"}
    local.save({"metadata": metadata, "spec": spec, "status": {"phase": phase}})
    return local


@pytest.mark.parametrize(
    ("phase", "words", "told"),
    [
        ("Suspended", (), "the unfinished run of job, {}, does not go on; a new one begins"),
        ("Failed", (), "the last run of job, {}, failed; a new one begins at step 0"),
        ("Succeeded", (), "error: nothing runs in this test"),
        ("Suspended", ("--fresh",), "error: nothing runs in this test"),
    ],
)
def test_last_run_with_another_storage_is_told_of(
    write_job, trainyard, place: Path, phase: str, words: tuple[str, ...], told: str
) -> None:
    keep_job(place / "a", phase)
    ran = trainyard("run", write_job(place / "job.yaml", "pass"), "--storage", "b", *words)
    assert ran.err.splitlines()[0] == told.format(f"whose results lie in {place}/a")


@pytest.mark.parametrize("words", [(), ("--fresh",)])
def test_last_run_that_is_at_work_elsewhere_is_told_of(
    write_job, trainyard, place: Path, words: tuple[str, ...]
) -> None:
    with held(keep_job(place / "a", "Running")):
        ran = trainyard("run", write_job(place / "job.yaml", "pass"), "--storage", "b", *words)
    told = f"another run of job, whose results lie in {place}/a, is at work; a new one begins"
    assert ran.err.splitlines()[0] == f"{told} beside it"


@pytest.mark.parametrize("words", [(), ("--fresh",)])
def test_second_run_into_one_storage_is_refused(
    write_job, trainyard, place: Path, words: tuple[str, ...]
) -> None:
    local = keep_job(place / "a", "Running")
    with held(local):
        ran = trainyard("run", write_job(place / "job.yaml", "pass"), "--storage", "a", *words)
        pid = local.runner_pid
    assert (ran.code, ran.err) == (
        1,
        f"error: 'job' already runs on this machine, process {pid}\nhelp: trainyard logs job -f\n",
    )
    assert [one.directory.name for one in local_jobs("job")] == ["before"]
