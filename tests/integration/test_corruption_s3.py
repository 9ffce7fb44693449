"""What tests/unit/checkpoint/test_corruption.py shows for a folder, on real S3 servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.corrupt import KINDS, campaign, massacre
from chaos.depot import open_depots

from trainyard_trainer.storage import Storage


@pytest.fixture(params=["s3", "legacy"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """versitygw; legacy: it refuses conditional writes and batch deletes."""
    with open_depots(tmp_path) as depots:
        yield depots[request.param].open(tmp_path)


def test_nothing_wrong_is_ever_loaded_from_a_spoilt_history(storage: Storage) -> None:
    tally = campaign(storage, flips=200, each=10, seed=2)
    assert tally == {"byte flipped": 200} | dict.fromkeys(KINDS, 10)
    print(f"0 wrong loads of {tally.total()} on {storage.uri}: {dict(tally)}")


def test_a_history_without_a_whole_checkpoint_is_refused_each_time(storage: Storage) -> None:
    assert massacre(storage, times=10, seed=2) == 10
