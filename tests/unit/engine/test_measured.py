"""What a step tells beside its loss: the gradients' norm and the memory in use."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from unit.engine.tiny import Tiny, storage_of, tiny_rank, train

from trainyard_trainer.context import Rank
from trainyard_trainer.data_wait import DataWait
from trainyard_trainer.distributed import choose_device
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipe import Stage
from trainyard_trainer.registry import recipe


@recipe("tiny-pieces")
class TinyPieces(Tiny):
    """Two samples at a time in one stage."""

    pieces: list[int]

    def stages(self) -> list[Stage]:
        self.pieces = []
        return [Stage(name="train", epochs=1, micro_batch_size=2)]

    def losses(self, modules: Any, batch: Any) -> Any:
        self.pieces.append(len(batch[0]))
        return super().losses(modules, batch)


def test_norm_of_gradients_is_recorded_without_clipping(tmp_path: Path) -> None:
    plain = tiny_rank(tmp_path / "plain")
    measured = tiny_rank(tmp_path / "measured", config={"training": {"log_grad_norm": True}})
    train(plain)
    train(measured)
    text = storage_of(measured).read("metrics.csv").decode()
    assert "train_main_grad_norm" in text.splitlines()[0]
    assert "train_main_grad_norm" not in storage_of(plain).read("metrics.csv").decode()


def test_memory_in_use_is_a_curve(tmp_path: Path) -> None:
    rank = tiny_rank(tmp_path)
    train(rank)
    used = curve(rank, "memory_mebibytes")
    assert used and all(50 < one < 50_000 for one in used)


def test_share_of_steps_that_waits_for_data_is_a_curve(tmp_path: Path) -> None:
    rank = tiny_rank(tmp_path)
    train(rank)
    shares = curve(rank, "data_wait_share")
    assert shares and all(0 < share < 1 for share in shares)


def test_share_that_waits_for_data_counts_from_the_last_row_on() -> None:
    wait = DataWait()
    wait.add(0.5, 1.0)
    wait.add(1.0, 5.0)
    assert wait.take() == 0.25
    wait.add(2.0, 4.0)
    assert wait.take() == 0.5
    assert wait.take() == 0


def curve(rank: Rank, name: str) -> list[float]:
    """A column of its metrics.csv, where it has values."""
    rows = csv.DictReader(storage_of(rank).read("metrics.csv").decode().splitlines())
    return [float(row[name]) for row in rows if row[name]]


def test_stage_may_say_how_many_samples_a_rank_holds_at_a_time(tmp_path: Path) -> None:
    run = train(tiny_rank(tmp_path, recipe="tiny-pieces", config={"norm": False}))
    assert isinstance(run.recipe, TinyPieces)
    assert max(run.recipe.pieces) == 2


def test_an_apple_gpu_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigurationError) as caught:
        choose_device("mps", 0)
    assert str(caught.value) == (
        "spec.config.training.device: there is no Apple GPU (mps) here; write 'auto'."
    )
