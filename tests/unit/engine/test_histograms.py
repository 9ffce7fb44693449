from pathlib import Path

import pytest
import torch
from torch import nn
from unit.engine.test_tracking import read_events
from unit.engine.tiny import tiny_rank, train

from trainyard_trainer.histograms import BUCKETS, histograms_of, spread


def test_histogram_counts_every_finite_value() -> None:
    found = spread(torch.tensor([-1.0, 0.0, 3.0, float("nan"), float("inf")]))
    assert found is not None
    assert (found.low, found.high, found.total, found.squares) == (-1.0, 3.0, 2.0, 10.0)
    assert (len(found.counts), sum(found.counts)) == (BUCKETS, 3)
    assert spread(torch.tensor([float("nan")])) is None


def test_equal_values_are_one_bucket() -> None:
    found = spread(torch.full((4, 2), 0.5))
    assert found is not None
    assert (found.low, found.high, found.counts) == (0.5, 0.5, [8.0])


def test_frozen_parameters_have_weights_alone() -> None:
    module = nn.Linear(2, 2, bias=False).requires_grad_(False)
    assert [tag for tag, _ in histograms_of({"model": module})] == ["weights/model.weight"]


def test_run_shows_histograms_and_its_configuration(tmp_path: Path) -> None:
    rank = tiny_rank(tmp_path, overrides=["training.histogram_every_epochs=2"])
    train(rank)
    read = read_events(tmp_path / "store" / rank.run.run_prefix / "tensorboard")
    assert [event.step for event in read.Histograms("gradients/model.0.weight")] == [12]
    (event,) = read.Histograms("weights/model.0.weight")
    assert event.histogram_value.num == 8 * 16
    (note,) = read.Tensors("configuration/attempt_1")
    assert "histogram_every_epochs: 2" in note.tensor_proto.string_val[0].decode()
    assert pytest.approx(sum(event.histogram_value.bucket)) == 128
