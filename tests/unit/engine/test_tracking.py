import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainyard_trainer.console import metric_line
from trainyard_trainer.events import EventFile, encode_png
from trainyard_trainer.files import FileStorage
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


def make_tracker(storage: FileStorage, scratch: Path, attempt: int = 1) -> Tracker:
    return Tracker(storage, scratch, attempt, flush_seconds=3600)


def test_tensorboard_reads_what_is_written_without_it(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "events.out.tfevents.1.test.0")
    events.scalars({"train_loss": 0.5, "negative": -2.0}, 3)
    events.image("matrix", np.zeros((4, 6, 3), dtype=np.uint8), 4)
    events.text("report", "ä bold claim", 5)
    events.close()
    read = read_events(tmp_path)
    assert [(e.step, e.value) for e in read.Scalars("train_loss")] == [(3, 0.5)]
    assert [(e.step, e.value) for e in read.Scalars("negative")] == [(3, -2.0)]
    image = read.Images("matrix")[0]
    assert (image.step, image.height, image.width) == (4, 4, 6)
    assert read.Tensors("report")[0].tensor_proto.string_val[0].decode() == "ä bold claim"


def test_resumed_curve_forgets_the_steps_that_are_repeated(tmp_path: Path) -> None:
    first = EventFile(tmp_path / "events.out.tfevents.1.test.0")
    for step in range(6):
        first.scalars({"loss": 1.0}, step)
    first.close()
    second = EventFile(tmp_path / "events.out.tfevents.2.test.1", purge_step=4)
    second.scalars({"loss": 2.0}, 4)
    second.close()
    points = read_events(tmp_path).Scalars("loss")
    assert [(e.step, e.value) for e in points] == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)]


def test_picture_is_a_png() -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(np.asarray(image.open(io.BytesIO(encode_png(pixels)))), pixels)
    assert np.array_equal(
        np.asarray(image.open(io.BytesIO(encode_png(pixels[:, :, 0])))), pixels[:, :, 0]
    )


def test_segments_are_uploaded_once_under_names_of_their_own(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    tracker = make_tracker(storage, tmp_path / "scratch")
    tracker.begin(None)
    tracker.add(1, 0, "train", {"loss": 1.0})
    tracker.flush()
    first = {entry.key: entry.modified for entry in storage.list("tensorboard/a1/")}
    tracker.flush()
    tracker.add(2, 0, "train", {"loss": 0.5})
    tracker.close()
    second = {entry.key: entry.modified for entry in storage.list("tensorboard/a1/")}
    assert len(first) == 1
    assert len(second) == 2
    assert first.items() <= second.items()
    assert [e.step for e in read_events(tmp_path / "store/tensorboard/a1").Scalars("loss")] == [
        1,
        2,
    ]


def test_metrics_table_replaces_repeated_steps_and_gains_columns(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    first = make_tracker(storage, tmp_path / "1")
    first.begin(None)
    for step in (2, 4, 6):
        first.add(step, 0, "train", {"loss": float(step)})
    first.close()
    second = make_tracker(storage, tmp_path / "2", attempt=2)
    second.begin(4)
    second.add(6, 1, "train", {"loss": 0.25})
    second.add(6, 1, "train", {"val_loss": 0.5})
    second.close()
    rows = list(csv.DictReader(io.StringIO(storage.read("metrics.csv").decode())))
    kept = [(row["step"], row["attempt"], row["loss"], row["val_loss"]) for row in rows]
    assert kept == [("2", "1", "2", ""), ("4", "1", "4", ""), ("6", "2", "0.25", "0.5")]


def test_curves_wait_for_a_storage_that_is_down(tmp_path: Path) -> None:
    storage = Unreachable(tmp_path / "store")
    tracker = make_tracker(storage, tmp_path / "scratch")
    tracker.begin(None)
    tracker.add(1, 0, "train", {"loss": 1.0})
    tracker.flush()
    assert list(storage.list("")) == []
    storage.is_broken = False
    tracker.close()
    assert {entry.key.split("/")[0] for entry in storage.list("")} == {"tensorboard", "metrics.csv"}


def test_log_line_is_that_of_the_guide() -> None:
    line = metric_line("train", {"loss": 0.70194, "accuracy": 0.5623, "macro_f1": 0.5})
    assert line == "train Loss: 0.7019 Acc: 0.5623 macro_f1: 0.5000"
