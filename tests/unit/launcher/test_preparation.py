"""What is settled before ranks run."""

import dataclasses
import json
from pathlib import Path

import pytest
from unit.launcher.nodes import RUN_PREFIX, make_run

from trainyard_operator.contract import Cause
from trainyard_trainer import cgroup
from trainyard_trainer.preparation import RETRY_SECONDS, reach_storage, retry
from trainyard_trainer.storage_errors import StorageUnreachable


def test_run_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "storage" / RUN_PREFIX / "run.json"
    reach_storage(make_run(tmp_path, overrides=["training.epochs=3"]), print)
    first = path.read_text()
    assert json.loads(first)["request"]["overrides"] == ["training.epochs=3"]
    reach_storage(make_run(tmp_path), print)
    assert path.read_text() == first


def test_the_dialect_is_found_out_where_the_job_does_not_say(tmp_path: Path) -> None:
    run, _ = reach_storage(make_run(tmp_path), print)
    assert run.storage.compat == "aws"
    told = dataclasses.replace(run.storage, compat="legacy")
    assert reach_storage(dataclasses.replace(run, storage=told), print)[0].storage == told


def test_absent_storage_is_tried_again_and_blamed_on_nobody() -> None:
    slept: list[float] = []
    said: list[str] = []

    def fail() -> None:
        raise StorageUnreachable("https://s3.example", "list", "timeout")

    with pytest.raises(StorageUnreachable) as caught:
        retry(fail, said.append, slept.append)
    assert slept == list(RETRY_SECONDS)
    assert (caught.value.exit_code, caught.value.cause) == (1, Cause.STORAGE)
    assert said[0] == (
        "spec.storage: https://s3.example cannot be reached to list (timeout); check the endpoint "
        "and the network. Trying again in 1 s."
    )


@pytest.mark.parametrize(
    ("files", "kills", "limit", "processors"),
    [
        (
            {"memory.events": "low 0\noom 3\noom_kill 2\n", "memory.max": "68719476736\n"}
            | {"cpu.max": "150000 100000\n"},
            2,
            64 * 2**30,
            2,
        ),
        (
            {"memory.events": "oom_kill 0\n", "memory.max": "max\n", "cpu.max": "max 100000"},
            0,
            None,
            8,
        ),
        (
            {
                "memory/memory.oom_control": "under_oom 0\noom_kill 1\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            1,
            None,
            8,
        ),
        ({}, None, None, 8),
    ],
    ids=["version 2", "version 2 without limits", "version 1", "none"],
)
def test_container_limits_are_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    kills: int | None,
    limit: int | None,
    processors: int,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup.oom_kills(tmp_path) == kills
    assert cgroup.memory_limit_bytes(tmp_path) == limit
    assert cgroup.processors(tmp_path) == processors
