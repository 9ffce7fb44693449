"""What a run of one rank does beside being resumed."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from unit.engine.tiny import (
    TRAIN,
    Config,
    Tiny,
    TinyGan,
    assert_equal_states,
    manifests_of,
    newest,
    result_of,
    storage_of,
    tiny_rank,
    train,
)

from trainyard_operator.contract import Report
from trainyard_trainer.card import CARD_FILE, read_card
from trainyard_trainer.context import report_file
from trainyard_trainer.errors import ConfigurationError, Stopped
from trainyard_trainer.policy import Judge
from trainyard_trainer.recipe import Data, Metric, Stage, TensorSamples
from trainyard_trainer.registry import recipe

PLAIN = {"noise": 0, "dropout": 0, "norm": False}


def weights_of(rank: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = newest(rank).state["model"]
    return found


@pytest.mark.parametrize("micro_batch_size", [1, 3, 7])
def test_accumulation_equals_the_big_batch(tmp_path: Path, micro_batch_size: int) -> None:
    whole = tiny_rank(tmp_path / "a", config=PLAIN)
    parts = tiny_rank(
        tmp_path / "b", config=PLAIN, overrides=[f"training.micro_batch_size={micro_batch_size}"]
    )
    train(whole)
    train(parts)
    for name, weight in weights_of(whole).items():
        torch.testing.assert_close(weights_of(parts)[name], weight, rtol=1e-4, atol=1e-6)


def test_workers_load_the_same_as_the_rank_itself(tmp_path: Path) -> None:
    alone = tiny_rank(tmp_path / "a")
    helped = tiny_rank(tmp_path / "b", overrides=["training.num_workers=2", "training.epochs=2"])
    train(alone, lambda recipe: False)
    train(helped)
    twelve = next(m for m in manifests_of(alone) if m.step == 12)
    assert twelve.metrics == manifests_of(helped)[0].metrics


def test_early_stopping_ends_the_run(tmp_path: Path) -> None:
    stopping = {"metric": "val_loss", "mode": "max", "patience": 2}
    config = {"training": {"epochs": 9, "learning_rate": 0.05, "early_stopping": stopping}} | PLAIN
    rank = tiny_rank(tmp_path, config=config)
    train(rank)
    assert result_of(rank)["step"] < 9 * 6


def test_metric_that_is_not_evaluated_is_named(tmp_path: Path) -> None:
    checkpoint = {"keepBest": {"metric": "froc", "mode": "max"}}
    with pytest.raises(ConfigurationError) as caught:
        train(tiny_rank(tmp_path, checkpoint=checkpoint))
    assert str(caught.value) == (
        "spec.checkpoint.keepBest.metric: 'froc' is not among what is evaluated; name one of "
        "'val_accuracy', 'val_loss'."
    )


def test_metric_that_is_nearly_one_that_is_evaluated_is_corrected() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Judge(Metric("val_acuracy", "max"), None).judge({"val_loss": 1.0, "val_accuracy": 0.5})
    assert str(caught.value) == (
        "spec.checkpoint.keepBest.metric: 'val_acuracy' is not among what is evaluated; did you "
        "mean 'val_accuracy'? There are 'val_accuracy', 'val_loss'."
    )


def test_best_is_kept_under_the_name_that_the_job_gives_it(tmp_path: Path) -> None:
    checkpoint = {"keepBest": {"metric": "accuracy", "mode": "max"}, "keepLast": 1}
    rank = tiny_rank(tmp_path, checkpoint=checkpoint)
    train(rank)
    best = result_of(rank)["checkpoints"]["best"]
    assert best["metric"] == "accuracy"
    assert float(best["value"]) == pytest.approx(result_of(rank)["metrics"]["val_accuracy"], 1e-5)


def test_the_configurations_word_on_checkpoints_beats_the_jobs(tmp_path: Path) -> None:
    saving = {"everyEpochs": 1, "keepLast": 99, "async": False}
    steps = {}
    for keep in (None, 1):
        rank = tiny_rank(tmp_path / str(keep), config={"keep_last": keep}, checkpoint=saving)
        train(rank)
        best = result_of(rank)["best_step"]
        steps[keep] = [m.step for m in manifests_of(rank) if m.step != best]
    assert len(steps[None]) == 2
    assert steps[1] in ([], [18])


def test_report_is_complete_at_the_end(tmp_path: Path) -> None:
    rank = tiny_rank(tmp_path)
    train(rank)
    report = Report.from_json(report_file(rank.run.scratch).read_text())
    progress = report.progress or {}
    assert progress["stage"] == "train"
    assert (progress["epoch"], progress["epochs"]) == (3, 3)
    assert (progress["step"], progress["steps"], progress["percent"]) == (18, 18, 100)
    assert {"train_loss", "val_loss", "test_accuracy"} <= progress["metrics"].keys()
    assert all(isinstance(value, str) for value in progress["metrics"].values())
    assert [step for step, _ in progress["curve"]] == [6, 12, 18]
    assert report.latest is not None
    assert report.latest["step"] == 18
    assert report.kept == len(manifests_of(rank))


def test_weights_of_another_job_are_a_beginning(tmp_path: Path) -> None:
    teacher = tiny_rank(tmp_path, job="teacher")
    train(teacher)
    storage_of(teacher).write("run.json", json.dumps({}).encode())
    pupil = tiny_rank(
        tmp_path,
        overrides=["training.epochs=1", "training.learning_rate=1e-30"],
        config={"norm": True, "training": {"optimizer": {"weight_decay": 0}}},
        checkpoint={"resumeFrom": {"job": "teacher", "checkpoint": "latest"}},
    )
    train(pupil)
    for name in ("0.weight", "4.bias"):
        assert torch.equal(weights_of(pupil)[name], weights_of(teacher)[name])


def test_a_run_that_only_evaluates_judges_the_weights_it_was_given(tmp_path: Path) -> None:
    teacher = tiny_rank(tmp_path, job="teacher")
    train(teacher)
    storage_of(teacher).write("run.json", json.dumps({}).encode())
    judge = tiny_rank(
        tmp_path,
        overrides=["training.evaluate_only=true"],
        checkpoint={"resumeFrom": {"job": "teacher", "checkpoint": "best"}},
    )
    train(judge)
    found, expected = result_of(judge), result_of(teacher)
    finals = {name for name in expected["metrics"] if not name.startswith("train_")}
    assert {name: found["metrics"][name] for name in finals} == {
        name: expected["metrics"][name] for name in finals
    }
    assert (found["step"], found["splits"]["test"]["samples"]) == (0, 9)
    assert manifests_of(judge) == []


def test_a_run_that_only_evaluates_needs_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        train(tiny_rank(tmp_path, overrides=["training.evaluate_only=true"]))
    assert str(caught.value) == (
        "training.evaluate_only: there are no weights to judge; write spec.checkpoint.resumeFrom."
    )


def test_a_run_leaves_word_of_what_its_weights_are_for(tmp_path: Path) -> None:
    rank = tiny_rank(tmp_path)
    train(rank)
    card = read_card(storage_of(rank).read(CARD_FILE), CARD_FILE)
    assert (card.recipe, card.labels, card.data_path) == ("tiny", {}, None)
    assert card.config == result_of(rank)["config"]


def test_generator_loss_is_computed_with_the_stepped_discriminator(tmp_path: Path) -> None:
    rank = tiny_rank(tmp_path, recipe="tiny-gan", config={"training": {"micro_batch_size": 5}})
    run = train(rank)
    assert isinstance(run.recipe, TinyGan)
    header = storage_of(rank).read("metrics.csv").decode().splitlines()[0].split(",")
    assert {"train_discriminator_loss", "train_generator_loss", "train_realism"} <= set(header)
    assert {"discriminator_learning_rate", "generator_learning_rate"} <= set(header)
    assert (
        all(p.requires_grad for p in run.recipe.kept.values())
        if hasattr(run.recipe, "kept")
        else True
    )


def test_interrupted_gan_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = tiny_rank(tmp_path / "a", recipe="tiny-gan")
    train(whole)
    calls = itertools.count()
    with pytest.raises(Stopped):
        train(tiny_rank(tmp_path / "b", recipe="tiny-gan"), lambda _: next(calls) == 8)
    second = tiny_rank(tmp_path / "b", recipe="tiny-gan", attempt=2)
    train(second)
    assert_equal_states(newest(whole).state, newest(second).state)


@recipe("tiny-stages")
class TinyStages(Tiny):
    """A head alone, then everything."""

    def stages(self) -> list[Stage]:
        return [
            Stage(name="head", epochs=2, trainable=("model.4",), batch_size=16),
            Stage(name="all", epochs=1),
        ]

    def build_data(self, stage: Stage) -> Data:
        data = super().build_data(stage)
        points = [data.train[index] for index in range(TRAIN)]
        tensors = TensorSamples(
            torch.stack([p[0] for p in points]),
            torch.tensor([p[1] for p in points]),
            torch.arange(TRAIN),
        )
        return Data(train=tensors, validation=data.validation)


@pytest.mark.parametrize("stop_at", [2, 3, 4, 6, 7])
def test_stages_resume_and_freeze(tmp_path: Path, stop_at: int) -> None:
    whole = tiny_rank(tmp_path / "a", recipe="tiny-stages", checkpoint={"keepLast": 99})
    train(whole)
    with pytest.raises(Stopped):
        train(
            tiny_rank(tmp_path / "b", recipe="tiny-stages"),
            lambda recipe: recipe.position.step == stop_at,
        )
    second = tiny_rank(tmp_path / "b", recipe="tiny-stages", attempt=2)
    train(second)
    one, other = newest(whole), newest(second)
    assert one.manifest.step == 2 * 3 + 6
    assert_equal_states(one.state, other.state)
    manifests = {m.step: m for m in manifests_of(whole)}
    assert set(manifests[6].metrics) == {"head/val_loss", "head/val_accuracy"}


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    first = tiny_rank(tmp_path / "a", recipe="tiny-stages")
    with pytest.raises(Stopped):
        train(first, lambda recipe: recipe.position.step == 1)
    later = tiny_rank(tmp_path / "b", recipe="tiny-stages")
    with pytest.raises(Stopped):
        train(later, lambda recipe: recipe.position.step == 5)
    assert torch.equal(weights_of(first)["0.weight"], weights_of(later)["0.weight"])
    assert not torch.equal(weights_of(first)["4.weight"], weights_of(later)["4.weight"])


def test_config_is_the_recipes_own() -> None:
    assert Tiny.config_class is Config


@recipe("tiny-poisson")
class TinyPoisson(Tiny):
    """Each step draws each sample by itself, as differential privacy asks; some draw none."""

    def build_data(self, stage: Stage) -> Data:
        return dataclasses.replace(super().build_data(stage), sampler=PoissonSampler())


class PoissonSampler:
    """Batches of 0 to about 4."""

    def __len__(self) -> int:
        return TRAIN

    def steps(self, batch_size: int) -> int:
        return -(-TRAIN // batch_size)

    def take(self, epoch: int, cursor: int, batch_size: int) -> tuple[Tensor, int]:
        source = np.random.default_rng([epoch, cursor])
        drawn = source.random(TRAIN) < 2 / TRAIN
        return torch.from_numpy(np.flatnonzero(drawn)), min(TRAIN, cursor + batch_size)


def test_batches_may_be_drawn_and_be_empty(tmp_path: Path) -> None:
    config = {"norm": False, "training": {"batch_size": 4}}
    whole = tiny_rank(tmp_path / "a", recipe="tiny-poisson", config=config)
    train(whole)
    assert newest(whole).manifest.step == 3 * 12
    sizes = [
        len(PoissonSampler().take(epoch, 4 * step, 4)[0])
        for epoch in range(3)
        for step in range(12)
    ]
    assert 0 in sizes
    assert newest(whole).manifest.samples_seen == sum(sizes)
    with pytest.raises(Stopped):
        train(
            tiny_rank(tmp_path / "b", recipe="tiny-poisson", config=config),
            lambda recipe: recipe.position.step == 17,
        )
    second = tiny_rank(tmp_path / "b", recipe="tiny-poisson", config=config, attempt=2)
    train(second)
    assert_equal_states(newest(whole).state, newest(second).state)


def test_checkpoint_is_due_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = itertools.count(1)
    monkeypatch.setattr("trainyard_trainer.interval.Interval.is_due", lambda *_: next(asked) == 4)
    rank = tiny_rank(tmp_path, checkpoint={"everySeconds": 60, "keepLast": 99})
    train(rank)
    assert min(m.step for m in manifests_of(rank)) == 4
