import csv
import io
import random
from pathlib import Path

import pytest

from trainyard_trainer.files import FileStorage
from trainyard_trainer.metrics_table import MetricsTable, Rows, read_metrics
from trainyard_trainer.outbox import Piece


class Counting(FileStorage):
    """Knows how much was written."""

    written = 0

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        self.written += len(data)
        super().write(key, data, if_absent=if_absent)


def store(storage: FileStorage, piece: Piece | None) -> None:
    if piece is not None:
        storage.write(piece.key, piece.data)
        storage.delete(piece.replaces)


def flush(storage: FileStorage, table: MetricsTable) -> None:
    store(storage, table.cut())
    store(storage, table.take_whole())


def steps_of(storage: FileStorage) -> list[int]:
    rows = read_metrics(storage)
    assert rows is not None
    return list(rows.lines)


@pytest.mark.parametrize("flushes", [1, 7, 8, 9, 64, 65, 130])
def test_pieces_are_few_and_hold_every_row(tmp_path: Path, flushes: int) -> None:
    storage = FileStorage(tmp_path)
    table = MetricsTable(1)
    store(storage, table.take_over(Rows()))
    for step in range(flushes):
        table.add(0.0, step, 0, "train", {"loss": step / 3})
        table.add(0.0, step + 1, 0, "train", {f"late_{step // 50}": 1.0})
        flush(storage, table)
    assert steps_of(storage) == list(range(flushes + 1))
    assert len(list(storage.list("metrics/"))) <= 1 + 7 * 3
    store(storage, table.take_whole(at_the_end=True))
    rows = read_metrics(storage)
    assert rows is not None
    assert storage.read("metrics.csv").decode() == rows.to_csv()
    whole = list(csv.DictReader(io.StringIO(rows.to_csv())))
    assert [float(row["loss"]) for row in whole[:-1]] == pytest.approx(
        [step / 3 for step in range(flushes)]
    )
    assert all(None not in row and None not in row.values() for row in whole)


def test_attempt_that_wrote_after_its_successor_began_is_not_read(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path)
    lost = MetricsTable(1)
    store(storage, lost.take_over(Rows()))
    lost.add(0.0, 1, 0, "train", {"loss": 1.0})
    store(storage, lost.cut())
    after = MetricsTable(2)
    inherited = read_metrics(storage)
    assert inherited is not None
    store(storage, after.take_over(inherited.up_to(1)))
    lost.add(0.0, 2, 0, "train", {"loss": 1.0})
    store(storage, lost.cut())
    store(storage, lost.take_whole())
    assert steps_of(storage) == [1]


def test_stage_names_need_no_care(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path)
    table = MetricsTable(1)
    store(storage, table.take_over(Rows()))
    table.add(0.0, 1, 0, 'a, "b"\nc', {"loss": 1.0})
    flush(storage, table)
    row = next(csv.DictReader(io.StringIO(storage.read("metrics.csv").decode())))
    assert (row["stage"], row["loss"]) == ('a, "b" c', "1")


def test_long_run_writes_each_row_a_handful_of_times(tmp_path: Path) -> None:
    storage = Counting(tmp_path)
    table = MetricsTable(1)
    store(storage, table.take_over(Rows()))
    values = random.Random(0)
    for step in range(10_000):
        table.add(0.0, step, 0, "train", {f"m{i}": values.random() for i in range(4)})
        if step % 35 == 34:
            flush(storage, table)
    store(storage, table.take_whole(at_the_end=True))
    assert storage.written < 8 * len(storage.read("metrics.csv"))


def test_curve_has_the_rows_that_have_the_metric() -> None:
    columns = ["step", "epoch", "val_loss", "val_auc"]
    rows = Rows(columns=columns, lines={5: "5,0,0.5,", 10: "10,1,,0.75", 20: "20,2,0.25,1"})
    assert rows.curve("val_loss") == ((5, 0.5), (20, 0.25))
    assert rows.curve("val_auc") == ((10, 0.75), (20, 1.0))
    assert rows.curve("absent") == Rows().curve("val_loss") == ()
