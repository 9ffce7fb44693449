import csv
import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patience import WAIT_SECONDS

from trainyard_trainer.console import metric_line
from trainyard_trainer.events import EventSegment, Histogram, encode_png
from trainyard_trainer.files import FileStorage
from trainyard_trainer.pictures import Drawing, Image
from trainyard_trainer.storage_errors import StorageUnreachable
from trainyard_trainer.tracking import Tracker


class Unreachable(FileStorage):
    """A storage that takes nothing until it is mended."""

    is_broken = True

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if self.is_broken:
            raise StorageUnreachable(key, "write", "no answer")
        super().write(key, data, if_absent=if_absent)


def read_events(directory: Path) -> Any:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator(str(directory))
    accumulator.Reload()
    return accumulator


@contextmanager
def tracking(
    storage: FileStorage, attempt: int = 1, resumed_step: int | None = None, flush: float = 3600
) -> Iterator[Tracker]:
    tracker = Tracker(storage, attempt, flush_seconds=flush)
    tracker.begin(resumed_step)
    yield tracker
    tracker.close()


def wait_for(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stored(storage: FileStorage) -> list[str]:
    return [entry.key for entry in storage.list("")]


def table(storage: FileStorage) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(storage.read("metrics.csv").decode())))


def test_tensorboard_reads_what_is_written_without_it(tmp_path: Path) -> None:
    events = EventSegment()
    events.scalars({"train_loss": 0.5, "negative": -2.0}, 3, 100.0)
    events.image("matrix", np.zeros((4, 6, 3), dtype=np.uint8), 4, 100.0)
    events.text("report", "ä bold claim", 5, 100.0)
    events.histogram("weights", Histogram(-1.0, 1.0, 0.5, 2.0, [1, 0, 3, 2]), 6, 100.0)
    (tmp_path / "events.out.tfevents.1.test").write_bytes(events.data)
    read = read_events(tmp_path)
    assert [(e.step, e.value) for e in read.Scalars("train_loss")] == [(3, 0.5)]
    assert [(e.step, e.value) for e in read.Scalars("negative")] == [(3, -2.0)]
    image = read.Images("matrix")[0]
    assert (image.step, image.height, image.width) == (4, 4, 6)
    assert read.Tensors("report")[0].tensor_proto.string_val[0].decode() == "ä bold claim"
    spread = read.Histograms("weights")[0].histogram_value
    assert (spread.min, spread.max, spread.num) == (-1.0, 1.0, 6)
    assert (spread.sum, spread.sum_squares) == (0.5, 2.0)
    assert spread.bucket_limit == [-0.5, 0.0, 0.5, 1.0]
    assert spread.bucket == [1, 0, 3, 2]


def test_picture_is_a_png() -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(np.asarray(image.open(io.BytesIO(encode_png(pixels)))), pixels)
    assert np.array_equal(
        np.asarray(image.open(io.BytesIO(encode_png(pixels[:, :, 0])))), pixels[:, :, 0]
    )


def test_pictures_go_to_tensorboard_to_storage_and_to_the_gallery(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    with tracking(storage) as tracker:
        tracker.step = 7
        tracker.show_pictures("val", {"ramp": Image(pixels=np.linspace(0, 1, 12).reshape(3, 4))})
    assert stored(storage).count("pictures/val/ramp.png") == 1
    assert tracker.gallery == {"val/ramp": storage.read("pictures/val/ramp.png")}
    (shown,) = read_events(tmp_path / "store/tensorboard").Images("val/ramp")
    assert (shown.step, shown.height, shown.width) == (7, 3, 4)


def test_picture_that_cannot_be_drawn_costs_nothing_but_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("trainyard"), "propagate", True)

    def fail(figure: object) -> None:
        raise RuntimeError("no ink")

    storage = FileStorage(tmp_path / "store")
    with tracking(storage) as tracker:
        tracker.picture("val/broken", Drawing(draw=fail))
        tracker.add(1, 0, "train", {"loss": 1.0})
    assert [row["loss"] for row in table(storage)] == ["1"]
    assert caplog.messages == [
        "What was recorded at step 0 cannot be shown: picture 'val/broken' cannot be drawn "
        "(RuntimeError: no ink)"
    ]


def test_segments_are_uploaded_once_under_names_of_their_own(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    with tracking(storage, flush=0.01) as tracker:
        tracker.add(1, 0, "train", {"loss": 1.0})
        wait_for(lambda: len(list(storage.list("tensorboard/"))) == 1)
        first = {entry.key: entry.modified for entry in storage.list("tensorboard/")}
        time.sleep(0.1)
        tracker.add(2, 0, "train", {"loss": 0.5})
    second = {entry.key: entry.modified for entry in storage.list("tensorboard/")}
    assert len(second) == 2
    assert first.items() <= second.items()
    assert [e.step for e in read_events(tmp_path / "store/tensorboard").Scalars("loss")] == [1, 2]


def test_curve_over_several_attempts_has_each_step_once(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    attempts = [(None, range(1, 7)), (None, range(1, 5)), (2, range(3, 10)), (8, range(9, 13))]
    for attempt, (resumed_step, steps) in enumerate(attempts, 1):
        with tracking(storage, attempt, resumed_step, flush=0.01) as tracker:
            for step in steps:
                tracker.add(step, 0, "train", {"loss": float(attempt)})
                if step % 3 == 0:
                    wait_for(lambda: not tracker._queue)
    points = read_events(tmp_path / "store/tensorboard").Scalars("loss")
    truth = [
        (1, 2),
        (2, 2),
        *[(step, 3) for step in range(3, 9)],
        (9, 4),
        (10, 4),
        (11, 4),
        (12, 4),
    ]
    assert [(e.step, e.value) for e in points] == truth
    assert [(int(row["step"]), float(row["loss"])) for row in table(storage)] == truth


def test_table_replaces_repeated_steps_and_gains_columns(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    with tracking(storage) as first:
        for step in (2, 4, 6):
            first.add(step, 0, "train", {"loss": float(step)})
    with tracking(storage, attempt=2, resumed_step=4) as second:
        second.add(4, 0, "train", {"val_loss": 0.75})
        second.add(6, 1, "train", {"loss": 0.25})
        second.add(6, 1, "train", {"val_loss": 0.5})
    kept = [(r["step"], r["attempt"], r["loss"], r["val_loss"]) for r in table(storage)]
    assert kept == [("2", "1", "2", ""), ("4", "2", "4", "0.75"), ("6", "2", "0.25", "0.5")]


def test_rows_that_were_not_stored_come_back_with_the_checkpoint(tmp_path: Path) -> None:
    storage, away = FileStorage(tmp_path / "store"), Unreachable(tmp_path / "store")
    with tracking(storage) as first:
        first.add(1, 0, "train", {"loss": 1.0})
    with tracking(away, attempt=2, resumed_step=1) as second:
        for step in (2, 3):
            second.add(step, 0, "train", {"loss": float(step)})
        rows = second.unstored()
    third = Tracker(storage, 3, flush_seconds=3600)
    third.begin(3, rows)
    third.add(4, 0, "train", {"loss": 4.0})
    assert [row[1] for row in third.unstored()] == [2, 3, 4]
    third.close()
    assert third.unstored() == []
    truth = [(1, 1), (2, 2), (3, 2), (4, 3)]
    assert [(int(row["step"]), int(row["attempt"])) for row in table(storage)] == truth
    points = read_events(tmp_path / "store/tensorboard").Scalars("loss")
    assert [(e.step, e.value) for e in points] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_rows_that_were_stored_after_the_checkpoint_are_not_doubled(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    with tracking(storage) as first:
        first.add(1, 0, "train", {"loss": 1.0})
        first.add(2, 0, "train", {"loss": 2.0})
        rows = [[0.0, 1, 0, "train", {"loss": 1.0}, 1], [0.0, 2, 0, "train", {"loss": 2.0}, 1]]
    second = Tracker(storage, 2, flush_seconds=3600)
    second.begin(2, rows)
    second.close()
    assert [(row["step"], row["loss"]) for row in table(storage)] == [("1", "1"), ("2", "2")]
    points = read_events(tmp_path / "store/tensorboard").Scalars("loss")
    assert [(e.step, e.value) for e in points] == [(1, 1), (2, 2)]


class WithoutTable(FileStorage):
    """Dies between the events of a flush and its rows."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if key.startswith("metrics") and b"\n1," in data:
            raise StorageUnreachable(key, "write", "no answer")
        super().write(key, data, if_absent=if_absent)


def test_kill_between_events_and_rows_doubles_no_point(tmp_path: Path) -> None:
    with tracking(WithoutTable(tmp_path / "store")) as first:
        first.add(1, 0, "train", {"loss": 1.0})
        first.add(2, 0, "train", {"loss": 2.0})
        rows = first.unstored()
    storage = FileStorage(tmp_path / "store")
    assert "events" in "".join(stored(storage))
    second = Tracker(storage, 2, flush_seconds=3600)
    second.begin(2, rows)
    second.add(3, 0, "train", {"loss": 3.0})
    second.close()
    assert [row["step"] for row in table(storage)] == ["1", "2", "3"]
    points = read_events(tmp_path / "store/tensorboard").Scalars("loss")
    assert [(e.step, e.value) for e in points] == [(1, 1), (2, 2), (3, 3)]


def test_curves_wait_for_a_storage_that_is_down(tmp_path: Path) -> None:
    storage = Unreachable(tmp_path / "store")
    with tracking(storage, flush=0.01) as tracker:
        for step in range(1, 4):
            tracker.add(step, 0, "train", {"loss": 1.0})
            wait_for(lambda: not tracker._queue)
        assert stored(storage) == []
        storage.is_broken = False
    assert {key.split("/")[0] for key in stored(storage)} == {
        "tensorboard",
        "metrics",
        "metrics.csv",
    }
    assert [row["step"] for row in table(storage)] == ["1", "2", "3"]


def test_picture_that_cannot_be_shown_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = FileStorage(tmp_path / "store")
    with tracking(storage) as tracker:
        tracker.add(1, 0, "train", {"loss": 1.0})
        tracker.image("bad", np.zeros(()))
        tracker.add(2, 0, "train", {"loss": 0.5})
    assert [row["step"] for row in table(storage)] == ["1", "2"]
    assert "What was recorded at step 1 cannot be shown" in caplog.text


def test_log_line_is_that_of_the_guide() -> None:
    line = metric_line("train", {"loss": 0.70194, "accuracy": 0.5623, "macro_f1": 0.5})
    assert line == "train Loss: 0.7019 Acc: 0.5623 macro_f1: 0.5000"


@pytest.mark.parametrize("damage", [b"", b"step,epoch\n\xff", b"step,epoch\nx,0", b"step,a\n1,2,3"])
def test_damaged_table_of_an_earlier_attempt_is_said_once_and_begins_anew(
    damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("trainyard"), "propagate", True)
    storage = FileStorage(tmp_path / "store")
    storage.write("metrics/a1/0-0.csv", damage)
    with tracking(storage, attempt=2, resumed_step=1, flush=0.01) as tracker:
        for step in range(2, 4):
            tracker.add(step, 0, "train", {"loss": 1.0})
            wait_for(lambda: not tracker._queue)
    assert [row["step"] for row in table(storage)] == ["2", "3"]
    (said,) = caplog.messages
    assert said.startswith(
        "metrics.csv begins anew, since a piece of an earlier attempt is damaged ("
    )
    assert storage.read("metrics/a1/0-0.csv") == damage


def test_report_that_fails_is_said_once_and_costs_no_curve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("trainyard"), "propagate", True)
    storage = FileStorage(tmp_path / "store")

    def fail() -> None:
        raise KeyError("host")

    tracker = Tracker(storage, 1, flush_seconds=0.01)
    tracker.before_flush = fail
    tracker.begin(None)
    for step in range(1, 4):
        tracker.add(step, 0, "train", {"loss": 1.0})
        wait_for(lambda: not tracker._queue)
    tracker.close()
    assert [row["step"] for row in table(storage)] == ["1", "2", "3"]
    assert caplog.messages == ["A part of the curves and reports is not stored (KeyError: 'host')."]


def test_file_without_a_usable_name_costs_no_curve(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    with tracking(storage) as tracker:
        tracker.file("../outside", b"")
        tracker.add(1, 0, "train", {"loss": 1.0})
    assert [row["step"] for row in table(storage)] == ["1"]


def test_record_that_storage_cannot_answer_ends_no_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("trainyard"), "propagate", True)

    class Odd(Unreachable):
        def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
            if self.is_broken:
                raise KeyError("no sense")
            super().write(key, data, if_absent=if_absent)

    storage = Odd(tmp_path / "store")
    with tracking(storage, flush=0.01) as tracker:
        for step in range(1, 3):
            tracker.add(step, 0, "train", {"loss": 1.0})
            wait_for(lambda: not tracker._queue)
        storage.is_broken = False
    assert [row["step"] for row in table(storage)] == ["1", "2"]
    assert caplog.messages == ["Curves are not stored (KeyError: 'no sense')."]
