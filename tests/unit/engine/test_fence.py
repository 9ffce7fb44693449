"""An attempt on a node that was cut off comes back after another has taken its place."""

from pathlib import Path
from typing import Any

import pytest
from unit.engine.tiny import storage_of, tiny_rank, train

from trainyard_operator.contract import ExitCode
from trainyard_operator.layout import METRICS_FILE, RESULT_FILE, attempt_end_file, attempt_file
from trainyard_trainer.errors import Stopped
from trainyard_trainer.fence import Fence, Superseded
from trainyard_trainer.files import FileStorage
from trainyard_trainer.outbox import Piece
from trainyard_trainer.recipe import Recipe
from trainyard_trainer.tracking import Tracker

SAVING = {"everySteps": 4, "keepLast": 9, "async": False}


@pytest.mark.parametrize("trace", [attempt_file(12), attempt_end_file(12, 1)])
def test_any_trace_of_a_later_attempt_ends_an_earlier_one(tmp_path: Path, trace: str) -> None:
    storage = FileStorage(tmp_path / "run")
    for attempt in (2, 11):
        storage.write(attempt_file(attempt), b"{}")
    Fence(storage, 11).check()
    storage.write(trace, b"{}")
    Fence(storage, 12).check()
    sentence = "Attempt 12 has begun: attempt 11 writes nothing more."
    with pytest.raises(Superseded, match=sentence) as found:
        Fence(storage, 11).check()
    assert found.value.exit_code == ExitCode.PEER_LOST


def test_table_stays_the_later_attempts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage = FileStorage(tmp_path / "run")
    first = Tracker(storage, 1, flush_seconds=3600)
    first.begin(None)
    first.add(1, 0, "train", {"loss": 3.0})
    second = Tracker(storage, 2, flush_seconds=3600)
    second.before_flush = lambda: Piece(key=attempt_file(2), data=b"{}")
    second.begin(None)
    second.add(1, 0, "train", {"loss": 2.0})
    second.close()
    before = {entry.key: storage.read(entry.key) for entry in storage.list("")}
    first.file("reports/late.txt", b"late")
    first.close()
    assert {entry.key: storage.read(entry.key) for entry in storage.list("")} == before
    assert first.is_superseded
    assert caplog.messages == ["Attempt 2 has begun: attempt 1 writes nothing more."]


def test_run_that_was_replaced_leaves_the_result_alone(tmp_path: Path) -> None:
    late, left = tiny_rank(tmp_path, checkpoint=SAVING), {}

    def replace(recipe: Recipe[Any]) -> bool:
        if recipe.position.step == 6 and not left:
            train(tiny_rank(tmp_path, attempt=2, checkpoint=SAVING))
            left.update({key: storage_of(late).read(key) for key in (RESULT_FILE, METRICS_FILE)})
        return False

    with pytest.raises((Superseded, Stopped)):
        train(late, replace)
    assert {key: storage_of(late).read(key) for key in left} == left != {}
