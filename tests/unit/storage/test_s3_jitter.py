"""What goes wrong behind training leaves its random generators as they are."""

import random
import socket

import pytest

from trainyard_trainer.storage import Patience, open_storage
from trainyard_trainer.storage_errors import StorageUnreachable


def test_pause_before_a_retry_is_not_drawn_from_the_runs_generator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    pauses: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", pauses.append)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        patience = Patience(connect_seconds=1, silence_seconds=1, attempts=3)
        storage = open_storage(
            "s3://bucket/run", endpoint=endpoint, region="x", compat="aws", patience=patience
        )
        before = random.getstate()
        with pytest.raises(StorageUnreachable):
            storage.read("a")
    assert len(pauses) == 2
    assert random.getstate() == before
