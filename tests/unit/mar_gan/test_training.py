"""Whole runs of the recipe through the engine, on one rank and on two."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from unit.engine.gang import run_gangs
from unit.engine.tiny import (
    assert_equal_states,
    newest,
    result_of,
    storage_of,
    tiny_rank,
    train,
)
from unit.mar_gan.slices import MODEL, write_syndeeplesion

from trainyard_trainer.config import build_config
from trainyard_trainer.recipe import Batch, Loss, Modules, Site
from trainyard_trainer.recipes.mar_gan.config import Config
from trainyard_trainer.recipes.mar_gan.recipe import MarGan

SAVING = {"everySteps": 2, "keepLast": 99, "async": False}


def config_of(data: Path, **training: Any) -> dict[str, Any]:
    """Six steps an epoch, of two patches each."""
    plan = {"epochs": 2, "batch_size": 2, "projection_angles": 12, "evaluation_batch_size": 1}
    images = {"path": str(data), "patch_size": 32, "artifacts_per_slice": 3}
    return {"model": MODEL, "training": plan | training, "data": images}


def losses_of(rank: Any) -> list[float]:
    """Each epoch's means over all ranks."""
    table = storage_of(rank).read("metrics.csv").decode().splitlines()
    return [
        float(value)
        for row in csv.DictReader(table)
        for name, value in row.items()
        if name.startswith("train_") and name.endswith("_loss") and value
    ]


@pytest.mark.slow
def test_interrupted_run_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(write_syndeeplesion(tmp_path / "data"))
    whole = tiny_rank(tmp_path / "a", recipe="mar-gan", config=config, checkpoint=SAVING)
    train(whole)
    losses = MarGan.losses

    def fail(recipe: MarGan, modules: Modules, batch: Batch) -> Iterator[Loss]:
        if recipe.position.step == 8:
            raise ArithmeticError("the disk of a node died")
        return losses(recipe, modules, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MarGan, "losses", fail)
        with pytest.raises(ArithmeticError):
            train(tiny_rank(tmp_path / "b", recipe="mar-gan", config=config, checkpoint=SAVING))
    second = tiny_rank(
        tmp_path / "b", recipe="mar-gan", config=config, checkpoint=SAVING, attempt=2
    )
    train(second)
    one, other = newest(whole), newest(second)
    assert (one.manifest.step, other.manifest.step, other.manifest.attempt) == (12, 12, 2)
    assert_equal_states(one.state, other.state)
    assert_equal_states(one.rank_state, other.rank_state)
    assert result_of(whole)["metrics"] == result_of(second)["metrics"]


@pytest.mark.slow
def test_two_ranks_lose_what_one_loses(tmp_path: Path) -> None:
    config = config_of(write_syndeeplesion(tmp_path / "data"), epochs=3)
    common = {"recipe": "mar-gan", "config": config}
    phases = [common | {"place": str(nodes), "nodes": nodes} for nodes in (1, 2)]
    codes, log = run_gangs(tmp_path, phases)
    assert codes == [[0], [0, 0]], log
    one, two = (tiny_rank(tmp_path / str(nodes), recipe="mar-gan") for nodes in (1, 2))
    assert len(losses_of(one)) == 3 * 8
    assert losses_of(two) == pytest.approx(losses_of(one), rel=2e-3, abs=1e-4)
    scores = [result_of(rank)["metrics"] for rank in (one, two)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-2, abs=1e-3)


@pytest.mark.slow
def test_two_ranks_score_each_image_as_one_does(tmp_path: Path) -> None:
    # Adam moves weights by less than they can tell.
    config = config_of(write_syndeeplesion(tmp_path / "data"), epochs=1, learning_rate=1e-30)
    common = {"recipe": "mar-gan", "config": config}
    phases = [common | {"place": str(nodes), "nodes": nodes} for nodes in (1, 2)]
    codes, log = run_gangs(tmp_path, phases)
    assert codes == [[0], [0, 0]], log
    one, two = (tiny_rank(tmp_path / str(nodes), recipe="mar-gan") for nodes in (1, 2))
    for split in ("validation", "test"):
        tables = [storage_of(rank).read(f"reports/scores_{split}.csv") for rank in (one, two)]
        assert tables[0] == tables[1]
    assert result_of(one)["metrics"] == result_of(two)["metrics"]


@pytest.mark.slow
def test_the_guides_networks_take_a_step_and_read_an_image_of_real_size() -> None:
    """The step at half of the side, which needs the same code in a quarter of the time."""
    recipe = guide_recipe()
    modules, images = recipe.build_modules(), torch.rand(1, 1, 416, 416)
    halves = images[..., ::2, ::2]
    optimizers = recipe.build_optimizers(recipe.stages()[0], modules)
    before = modules["generator"].to_target.to_origin.weight.clone()  # type: ignore[union-attr, operator]
    for loss in recipe.losses(modules, (halves.clone(), halves, torch.zeros(1))):
        optimizers[loss.optimizer].zero_grad()
        loss.value.backward()
        optimizers[loss.optimizer].step()
        assert loss.value.isfinite()
    after = modules["generator"].to_target.to_origin.weight  # type: ignore[union-attr]
    assert not torch.equal(before, after)  # type: ignore[arg-type]
    with torch.no_grad():
        fake = modules["generator"](images)
        verdicts = modules["discriminator"](images, fake)
    assert fake.shape == images.shape
    assert fake.isfinite().all()
    assert len(verdicts) == 3


def guide_recipe() -> MarGan:
    settings = {
        "data": {"patch_size": 416},
        "model": {"generator": {"recompute": True}},
        "training": {"projection_angles": 20},
    }
    site = Site(data_path=None, scratch=Path("unused"), device=torch.device("cpu"))
    return MarGan(build_config(Config, [settings]), site)
