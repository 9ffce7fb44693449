"""The local runner's line to the trainer's own server, and the memory that ranks share."""

import select
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from patience import WAIT_SECONDS
from unit.launcher.nodes import TOKEN, make_run

from trainyard.local import node_memory
from trainyard.local.launcher_line import LauncherLine
from trainyard.local.runner import held
from trainyard.state import new_local_job
from trainyard_operator.contract import Order, Standby, Summary
from trainyard_trainer.progress_server import ProgressServer
from trainyard_trainer.standby import OrderDesk

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAILED = Summary(exit_code=137, message="rank 1 was killed by SIGKILL", rank=1)
ORDER = Order(token=TOKEN, attempt=3, master_port=24000)


@pytest.fixture
def desk() -> OrderDesk:
    return OrderDesk(2, TOKEN, wake=lambda: None)


@contextmanager
def opened(tmp_path: Path, desk: OrderDesk) -> Iterator[LauncherLine]:
    server = ProgressServer(make_run(tmp_path), 0, desk)
    line = LauncherLine(server.address[1], TOKEN)
    yield line
    line.close()
    server.close()


@pytest.fixture
def line(tmp_path: Path, desk: OrderDesk) -> Iterator[LauncherLine]:
    with opened(tmp_path, desk) as line:
        yield line


def test_failure_is_heard_within_twenty_milliseconds(tmp_path: Path) -> None:
    """Once in five times: else the machine is busy."""
    assert any(seconds_to_hear(tmp_path) < 0.02 for _ in range(5))


def seconds_to_hear(tmp_path: Path) -> float:
    desk = OrderDesk(2, TOKEN, wake=lambda: None)
    with opened(tmp_path, desk) as line:
        return hear(line, desk)


def hear(line: LauncherLine, desk: OrderDesk) -> float:
    """How long it took."""
    assert line.ask()
    assert select.select([line], [], [], 0.05)[0] == []
    told: list[float] = []

    def stand_by() -> None:
        told.append(time.monotonic())
        desk.stand_by(Standby(attempt=2, summary=vars(FAILED)))

    threading.Timer(0.05, stand_by).start()
    assert select.select([line], [], [], WAIT_SECONDS)[0] == [line]
    heard = line.hear(NOW)
    seconds = time.monotonic() - told[0]
    assert heard
    assert (heard.attempt, heard.summary, heard.since) == (2, FAILED, NOW)
    return seconds


def test_order_is_taken_and_may_be_given_again(line: LauncherLine, desk: OrderDesk) -> None:
    assert line.order(ORDER)
    assert line.order(ORDER)
    assert desk.take() == ORDER
    assert not line.order(Order(token="guess", attempt=4, master_port=24000))


def test_launcher_that_does_not_serve_is_no_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        line = LauncherLine(unused.getsockname()[1], TOKEN)
        assert not line.ask()
        assert line.hear(NOW) is None
        assert not line.order(ORDER)


def test_launcher_that_is_gone_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = LauncherLine(server.getsockname()[1], TOKEN)
        assert line.ask()
        server.accept()[0].close()
        assert select.select([line], [], [], 5)[0] == [line]
        assert line.hear(NOW) is None


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(node_memory, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(node_memory, "LEAST_BYTES", 0)
    return tmp_path


def test_each_node_has_memory_that_nobody_else_may_enter(shared: Path) -> None:
    path = node_memory.make_node_memory("uid-1", 1)
    assert path == shared / "trainyard-uid-1-1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert node_memory.make_node_memory("uid-1", 1) == path


def test_memory_goes_with_its_job_alone(shared: Path) -> None:
    for uid, node in (("uid-1", 0), ("uid-1", 1), ("uid-2", 0)):
        path = node_memory.make_node_memory(uid, node)
        assert path
        (path / "snapshot").write_bytes(b"x")
    node_memory.remove_node_memory("uid-1")
    assert [path.name for path in shared.glob("trainyard-*")] == ["trainyard-uid-2-0"]


def test_memory_that_a_killed_runner_left_is_swept_by_the_next(shared: Path) -> None:
    for uid in ("uid-1", "uid-2", "uid-3"):
        assert node_memory.make_node_memory(uid, 0)
    new_local_job("dead", "uid-1")
    with held(new_local_job("alive", "uid-2")):
        node_memory.sweep_node_memory()
    left = {path.name for path in shared.glob("trainyard-*")}
    assert left == {"trainyard-uid-2-0", "trainyard-uid-3-0"}, "one runs, one is unknown here"


@pytest.mark.parametrize("place", ["absent", "small", "taken"])
def test_machine_without_room_goes_without(
    place: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "absent":
        monkeypatch.setattr(node_memory, "SHARED_MEMORY", shared / "absent")
    elif place == "small":
        monkeypatch.setattr(node_memory, "LEAST_BYTES", 2**62)
    else:
        (shared / "trainyard-uid-1-0").write_text("not a folder")
    assert node_memory.make_node_memory("uid-1", 0) is None
