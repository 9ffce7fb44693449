"""A save that is killed at any request to S3 leaves the old checkpoint or the new one."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.compare import state_differences
from chaos.depot import environment
from chaos.saver import make_checkpointer, state_at
from chaos.savers import Savers, start_savers
from cluster.s3 import S3
from faults.s3_proxy import Cut, Exchange, S3Proxy

from trainyard_trainer.checkpoint import Position
from trainyard_trainer.manifest import list_manifests, verify
from trainyard_trainer.storage import open_storage

BUCKET = "chaos"
ELEMENTS = {1: 100, 2: 1_500_000}
"""The second checkpoint is uploaded in parts."""


class Reaper:
    """Kills a saver when its n-th request arrives, or when the server has answered it."""

    def __init__(self, proxy: S3Proxy) -> None:
        self._lock, self._has_pid = threading.Lock(), threading.Event()
        self.at: int | None = None
        self.is_late = False
        self.count = 0
        self.names: list[str] = []
        self._pid = 0
        proxy.add(self._act)

    def arm(self, at: int | None, *, is_late: bool) -> None:
        self.at, self.is_late, self.count, self.names = at, is_late, 0, []
        self._has_pid.clear()

    def tell(self, pid: int) -> None:
        self._pid = pid
        self._has_pid.set()

    def _act(self, exchange: Exchange) -> None:
        with self._lock:
            is_last = self.count == self.at
            self.count += 1
            self.names.append(exchange.request.operation)
        if not is_last:
            exchange.forward()
            return
        if self.is_late:
            with exchange.answered() as response:
                response.read()
        self._has_pid.wait(10)
        os.kill(self._pid, signal.SIGKILL)
        raise Cut


@pytest.fixture
def reaper(tmp_path: Path) -> Iterator[tuple[Reaper, str]]:
    """And the endpoint of the server that it stands before."""
    with S3(tmp_path / "buckets") as access, environment(access.environment()):
        access.client().create_bucket(Bucket=BUCKET)
        with S3Proxy(access) as proxy:
            yield Reaper(proxy), proxy.access.endpoint


def test_a_kill_at_any_request_leaves_the_old_or_the_new_checkpoint(reaper: Any) -> None:
    reaper, endpoint = reaper
    with start_savers() as savers:
        reaper.arm(None, is_late=False)
        uri = f"s3://{BUCKET}/whole"
        for step, elements in ELEMENTS.items():
            reaper.count, reaper.names = 0, []
            assert (
                savers.save(uri, step, reaper.tell, endpoint=endpoint, elements=elements).code == 0
            )
        names = list(reaper.names)
        assert {"UploadPart", "CompleteMultipartUpload", "PutObject"} <= {*names}
        for is_late in (False, True):
            found = [
                kill_at(reaper, savers, endpoint, at, is_late=is_late) for at in range(len(names))
            ]
            assert found == sorted(found)
            assert {*found} == {1, 2}
            print(f"killed {'after' if is_late else 'before'} each of {names}: {found}")


def kill_at(reaper: Reaper, savers: Savers, endpoint: str, at: int, *, is_late: bool) -> int:
    """Returns the step that the next attempt goes on from."""
    uri = f"s3://{BUCKET}/{'late' if is_late else 'early'}-{at}"
    reaper.arm(None, is_late=False)
    assert savers.save(uri, 1, reaper.tell, endpoint=endpoint, elements=ELEMENTS[1]).code == 0
    reaper.arm(at, is_late=is_late)
    ended = savers.save(uri, 2, reaper.tell, endpoint=endpoint, elements=ELEMENTS[2])
    assert ended.code == -signal.SIGKILL
    reaper.arm(None, is_late=False)
    resumed = make_checkpointer(uri, endpoint, attempt=2)
    loaded = resumed.load_latest()
    assert loaded is not None and resumed.warning is None
    step: int = loaded.manifest.step
    assert not state_differences(loaded.state, state_at(step, ELEMENTS[step]), "state")
    assert resumed.save(Position(step=3), state_at(3, 100), blocking=True)
    storage = open_storage(uri, endpoint=endpoint)
    for manifest in list_manifests(storage).valid:
        verify(storage, manifest)
    return step
