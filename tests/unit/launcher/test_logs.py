"""Lines, their echo, and the segments that storage keeps."""

import gzip
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.launcher.nodes import make_run

from trainyard_operator.layout import node_log_prefix
from trainyard_trainer import log_upload
from trainyard_trainer.files import FileStorage
from trainyard_trainer.log_upload import RETRY_SECONDS, NodeLogs, SegmentUploader
from trainyard_trainer.logs import (
    LINE_BYTES,
    TAIL_LINES,
    Console,
    LineSplitter,
    LogStream,
    Segment,
    timestamp,
)
from trainyard_trainer.storage_errors import StorageUnreachable

NOON = 1_700_000_000_000_000_001


class Screen(Console):
    """A console that remembers."""

    def __init__(self) -> None:
        self.text = b""

    def write(self, data: bytes) -> None:
        self.text += data


class FlakyStorage(FileStorage):
    """Refuses the first writes, and counts all."""

    def __init__(self, root: Path, refusals: int) -> None:
        super().__init__(root)
        self.refusals = refusals
        self.tried: list[tuple[str, bytes]] = []

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        self.tried.append((key, data))
        if len(self.tried) <= self.refusals:
            raise StorageUnreachable(self.uri, "write", "timeout")
        super().write(key, data, if_absent=if_absent)


def make_stream(screen: Screen, label: str = "") -> LogStream:
    ticks: Iterator[int] = iter(range(NOON, NOON + 1000))
    return LogStream(screen, label, "logs/a1/rank-0", clock=lambda: next(ticks))


def test_time_is_written_as_a_kubelet_writes_it() -> None:
    assert timestamp(NOON) == "2023-11-14T22:13:20.000000001Z"


@given(st.lists(st.binary(max_size=50)))
def test_lines_do_not_depend_on_how_bytes_arrive(pieces: list[bytes]) -> None:
    whole, split = LineSplitter(), LineSplitter()
    expected = [*whole.feed(b"".join(pieces)), *whole.finish()]
    assert [line for piece in pieces for line in split.feed(piece)] + split.finish() == expected


def test_endless_line_is_split_and_memory_stays_bounded() -> None:
    splitter = LineSplitter()
    lines = [line for _ in range(10) for line in splitter.feed(b"x" * 10_000)]
    lines += splitter.finish()
    assert b"".join(lines) == b"x" * 100_000
    assert max(map(len, lines)) == LINE_BYTES


def test_each_echoed_line_names_its_rank() -> None:
    screen = Screen()
    stream = make_stream(screen, "[rank 3] ")
    stream.feed(b"loss 0.5\nloss")
    stream.feed(b" 0.4\n")
    assert screen.text == b"[rank 3] loss 0.5\n[rank 3] loss 0.4\n"


def test_only_the_last_lines_are_remembered() -> None:
    stream = make_stream(Screen())
    stream.feed(b"".join(b"%d\n" % number for number in range(100)))
    assert stream.tail == [str(number) for number in range(100 - TAIL_LINES, 100)]


def test_segments_hold_each_line_once_with_its_time() -> None:
    stream = make_stream(Screen())
    stream.feed(b"one\ntwo")
    first = stream.cut()
    assert stream.cut() is None
    stream.finish()
    second = stream.cut()
    assert first is not None
    assert second is not None
    assert [first.key, second.key] == [f"logs/a1/rank-0/00000{n}.log.gz" for n in (0, 1)]
    assert gzip.decompress(first.data) == b"2023-11-14T22:13:20.000000001Z one\n"
    assert gzip.decompress(second.data) == b"2023-11-14T22:13:20.000000002Z two\n"


def test_console_that_is_gone_stops_nobody() -> None:
    read, write = os.pipe()
    os.close(read)
    console = Console(write)
    console.write(b"lost\n")
    os.close(write)
    console.write(b"lost too\n")


def test_failed_upload_is_retried_with_the_same_bytes_and_done_once(tmp_path: Path) -> None:
    storage = FlakyStorage(tmp_path, refusals=2)
    waited: list[float] = []

    def wait(_: threading.Event, seconds: float) -> bool:
        waited.append(seconds)
        return False

    uploader = SegmentUploader(storage, wait)
    uploader.put(Segment("logs/a", b"first"))
    uploader.put(Segment("logs/b", b"second"))
    assert uploader.close(5) == 0
    assert storage.tried == [("logs/a", b"first")] * 3 + [("logs/b", b"second")]
    assert waited == list(RETRY_SECONDS[:2])


def test_absent_storage_delays_the_end_no_longer_than_allowed(tmp_path: Path) -> None:
    uploader = SegmentUploader(FlakyStorage(tmp_path, refusals=1000))
    uploader.put(Segment("logs/a", b"first"))
    assert uploader.close(0.02) == 1


def test_segments_waiting_for_storage_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_upload, "WAITING_BYTES", 10)
    uploader = SegmentUploader(FlakyStorage(tmp_path, refusals=1000))
    for number in range(5):
        uploader.put(Segment(f"logs/{number}", b"12345"))
    assert uploader.take_lost() == 3
    assert uploader.take_lost() == 0
    assert uploader.close(0) == 2


def test_node_keeps_its_own_log_beside_those_of_its_ranks(tmp_path: Path) -> None:
    screen = Screen()
    logs = NodeLogs(make_run(tmp_path), screen)
    storage = FlakyStorage(tmp_path / "storage", refusals=0)
    logs.say("before storage is reached")
    logs.attach(storage)
    logs.open_rank(1, 1).feed(b"hello\n")
    logs.flush_due(logs.flush_at - 1)
    assert storage.tried == []
    logs.flush_due(logs.flush_at)
    logs.say("last words")
    logs.close(5)
    assert sorted(key for key, _ in storage.tried) == [
        f"{node_log_prefix(1, 0)}/000000.log.gz",
        f"{node_log_prefix(1, 0)}/000001.log.gz",
        "logs/a1/rank-1/000000.log.gz",
    ]
    assert screen.text == (
        b"[node 0] before storage is reached\n[rank 1] hello\n[node 0] last words\n"
    )


def test_logs_can_stay_out_of_storage(tmp_path: Path) -> None:
    logs = NodeLogs(make_run(tmp_path, logs={"upload": False}), Screen())
    storage = FlakyStorage(tmp_path / "storage", refusals=0)
    logs.attach(storage)
    logs.say("a line")
    logs.close(5)
    assert storage.tried == []
