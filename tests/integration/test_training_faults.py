"""A training run whose S3 storage fails for a while: it goes on, says so, and loses nothing."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from faults.s3_actions import answer, cut, cut_request, hang, ignore_conditions, lose_response
from faults.s3_proxy import S3Proxy
from integration.bucket import BUCKET
from patience import HANG_SECONDS
from unit.engine.tiny import manifests_of, result_of, storage_of, tiny_rank, train

from trainyard_trainer.checkpoint import Checkpointer, Identity, Position, Retention
from trainyard_trainer.context import Rank, StorageLocation, report_file
from trainyard_trainer.manifest import list_manifests, verify
from trainyard_trainer.storage import Patience, open_storage

GANG = Path(__file__).parents[1] / "unit/engine/gang.py"
BEGIN, FAULTY, STEPS = 10, 20, 120
"""The earliest step at which storage fails; for how many at least; and of the whole run."""
STEP_SECONDS = 0.04
"""Of a step until storage is well again; the others are over at once."""
BRIEF = Patience(connect_seconds=0.5, silence_seconds=0.5, attempts=2)


@pytest.fixture
def proxy(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with S3Proxy(server) as proxy:
        yield proxy


@pytest.fixture
def place(proxy: S3Proxy, tmp_path: Path) -> StorageLocation:
    """A prefix of the test's own, behind the proxy."""
    uri = f"s3://{BUCKET}/{tmp_path.name}"
    return StorageLocation(
        uri=uri, endpoint=proxy.access.endpoint, region=None, compat="aws", patience=BRIEF
    )


class Witness:
    """Looks at a run after each of its steps, as the operator does, and breaks its storage.

    From when a checkpoint was reported until it was reported that none can be stored.
    """

    def __init__(self, rank: Rank, proxy: S3Proxy, fault: Any) -> None:
        self._file, self._proxy, self._fault = report_file(rank.run.scratch), proxy, fault
        self._rule: Any = None
        self.broke: int | None = None
        """The first step with broken storage."""
        self.healed: int | None = None
        self.began: dict[int, float] = {}
        """When each step was done."""
        self.acknowledged: dict[int, str] = {}
        """Digest by step of every checkpoint that a report named."""
        self.warnings: set[str] = set()

    def __call__(self, recipe: Any) -> bool:
        step = recipe.position.step
        self.began[step] = time.monotonic()
        self.look()
        if self.broke is None:
            if step >= BEGIN and self.acknowledged:
                self._rule, self.broke = self._proxy.add(self._fault, method="P*"), step
        elif self.healed is None and step >= self.broke + FAULTY and self.warnings:
            self._proxy.remove(self._rule)
            self.healed = step
        time.sleep(STEP_SECONDS if self.healed is None else 0)
        return False

    def look(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self._file.read_text())
        if report["latest"]:
            self.acknowledged[report["latest"]["step"]] = report["latest"]["sha256"]
        if report["storage_warning"]:
            assert report["warning"]
            self.warnings.add(report["storage_warning"])
        return report


FAULTS = {
    "internal error": (answer(500, "InternalError"), "error InternalError"),
    "slow down": (answer(503, "SlowDown"), "error SlowDown"),
    "silence": (hang(), "no answer in 0.5 s"),
    "away": (cut(), "connection closed"),
    "cut in a part": (cut_request(200), "connection closed"),
    "answers lost": (lose_response(), "connection closed"),
    "clock": (answer(403, "RequestTimeTooSkewed"), "the clock of this node differs"),
    "expired": (answer(400, "ExpiredToken"), "expired token"),
    "full": (answer(507, "InsufficientStorage"), "no space is left"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_training_goes_on_and_nothing_acknowledged_is_lost(
    tmp_path: Path, place: StorageLocation, proxy: S3Proxy, fault: str
) -> None:
    action, text = FAULTS[fault]
    rank = tiny_rank(
        tmp_path,
        storage=place,
        config={"training": {"epochs": STEPS // 6}},
        checkpoint={"everySteps": 5, "keepLast": 1000},
        logs={"flushSeconds": 1},
    )
    witness = Witness(rank, proxy, action)
    train(rank, witness)

    assert witness.broke is not None and witness.healed is not None
    faulty = range(witness.broke, witness.healed)
    pauses = [witness.began[step + 1] - witness.began[step] for step in faulty]
    assert median(pauses) < 0.5
    assert max(pauses) < 5
    assert any(text in warning for warning in witness.warnings), witness.warnings
    last = witness.look()
    assert (last["warning"], last["storage_warning"], last["latest"]["step"]) == (None, None, STEPS)
    assert result_of(rank)["step"] == STEPS
    assert {step for step in witness.acknowledged if step <= witness.broke}
    assert_all_there(rank, witness.acknowledged)


def test_run_that_ends_while_storage_is_away_waits_for_it(
    tmp_path: Path, place: StorageLocation, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its one attempt stores the last step."""
    monkeypatch.setattr("trainyard_trainer.checkpoint.RETRY_PAUSES", ())
    monkeypatch.setattr("trainyard_trainer.engine.FINAL_PAUSES", (0.2,) * 100)
    rank = tiny_rank(tmp_path, storage=place, config={"training": {"epochs": 2}})

    def take_away(recipe: Any) -> bool:
        if recipe.position.step == 10:
            rule = proxy.add(cut(), method="P*")
            threading.Timer(3, proxy.remove, [rule]).start()
        return False

    train(rank, take_away)
    assert result_of(rank)["step"] == 12
    assert manifests_of(rank)[0].step == 12


def test_two_ranks_train_on_while_storage_is_away(
    tmp_path: Path, place: StorageLocation, proxy: S3Proxy
) -> None:
    """One rank cannot upload its share: both go on, and save again once they can."""
    phase = {
        "nodes": 2,
        "place": ".",
        "storage": dataclasses.asdict(place),
        "config": {
            "training": {"epochs": 60},
            "pause": STEP_SECONDS,
            "pause_until": str(tmp_path / "seen"),
        },
        "checkpoint": {"everySteps": 5, "keepLast": 1000},
    }
    (tmp_path / "phases.json").write_text(json.dumps([phase]))
    rank = tiny_rank(tmp_path, storage=place)
    witness = Witness(rank, proxy, cut())
    command = [sys.executable, GANG, tmp_path, tmp_path / "phases.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), text=True) as gang:
        await_report(witness, lambda report: report["latest"])
        with proxy.during(cut(), key="*/part-1.pt"):
            before = await_report(witness, lambda report: report["storage_warning"])
            step = before["progress"]["step"]
            later = await_report(witness, lambda report: report["progress"]["step"] > step + 10)
            assert later["latest"]["step"] <= step
        await_report(witness, lambda report: report["latest"]["step"] > step + 10)
        (tmp_path / "seen").touch()
        output, _ = gang.communicate(timeout=HANG_SECONDS)
    assert json.loads(output) == [[0, 0]]
    assert "Rank 1 failed: spec.storage: " in " ".join(witness.warnings)
    assert witness.look()["storage_warning"] is None
    assert_all_there(rank, witness.acknowledged)


def await_report(witness: Witness, is_reached: Any) -> dict[str, Any]:
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if is_reached(report := witness.look()):
                return report
        time.sleep(0.02)
    raise AssertionError(f"not reached; warnings so far: {witness.warnings}")


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def assert_all_there(rank: Rank, acknowledged: dict[int, str]) -> None:
    """Every checkpoint that was ever reported is stored as it was reported, and verifies."""
    there = {manifest.step: manifest for manifest in manifests_of(rank)}
    for step, digest in acknowledged.items():
        assert there[step].digest == digest
        verify(storage_of(rank), there[step])


def test_what_retention_leaves_is_the_newest(
    tmp_path: Path, place: StorageLocation, proxy: S3Proxy
) -> None:
    """Deletes fail for a while: nothing is lost by it, and what is too much goes later."""
    rank = tiny_rank(
        tmp_path,
        storage=place,
        config={"training": {"epochs": STEPS // 6}},
        checkpoint={"everySteps": 5, "keepLast": 2},
    )
    witness = Witness(rank, proxy, answer(500, "InternalError"))
    train(rank, witness)
    newest = sorted(witness.acknowledged)[-1:]
    assert newest == [STEPS]
    assert_all_there(rank, {step: witness.acknowledged[step] for step in newest})
    assert len(manifests_of(rank)) <= 3


@pytest.mark.parametrize("compat", ["aws", "legacy"])
def test_large_states_come_back_and_memory_is_bounded_while_storage_is_silent(
    place: StorageLocation, proxy: S3Proxy, compat: str
) -> None:
    """40 MB saved again and again into silence: the host copy and a writer's parts, no more."""
    if compat == "legacy":
        ignore_conditions(proxy)
    storage = place.open(compat=compat).child("ns/job/uid")
    identity = Identity(namespace="ns", job="job", uid="uid", attempt=1)
    checkpointer = Checkpointer(storage, identity, keep=Retention(last=2))
    state = {"model": {"weight": torch.arange(10_000_000, dtype=torch.float32)}}
    assert checkpointer.save(Position(step=1), state, blocking=True)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_mb("VmRSS")
    with proxy.during(hang(), method="P*"):
        for step in range(2, 40):
            checkpointer.save(Position(step=step), state)
            time.sleep(0.05)
        checkpointer.wait()
    assert checkpointer.storage_warning
    assert memory_mb("VmHWM") - before < 200
    assert checkpointer.save(Position(step=40), state, blocking=True)
    assert checkpointer.storage_warning is None
    assert {manifest.step for manifest in list_manifests(storage).valid} == {1, 40}
    other = Checkpointer(open_as_another(storage), identity, keep=Retention(last=2))
    loaded = other.load_latest()
    assert loaded is not None
    assert torch.equal(loaded.state["model"]["weight"], state["model"]["weight"])


def open_as_another(storage: Any) -> Any:
    """A second process's view of the same place."""
    return open_storage(storage.uri, endpoint=storage._endpoint)


def memory_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1000
