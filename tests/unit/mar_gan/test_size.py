"""The guide's networks at their size; the standard runs of recipes have smaller ones."""

from pathlib import Path

import pytest
import torch

from trainyard_trainer.config import build_config
from trainyard_trainer.recipe import Site
from trainyard_trainer.recipes.mar_gan.config import Config
from trainyard_trainer.recipes.mar_gan.recipe import MarGan


@pytest.mark.slow
def test_the_guides_networks_take_a_step_and_read_an_image_of_real_size() -> None:
    """The step at a third of the side, which needs the same code in a ninth of the time."""
    recipe = guide_recipe()
    modules, images = recipe.build_modules(), torch.rand(1, 1, 416, 416)
    thirds = images[..., :136, :136]
    optimizers = recipe.build_optimizers(recipe.stages()[0], modules)
    before = modules["generator"].to_target.to_origin.weight.clone()  # type: ignore[union-attr, operator]
    for loss in recipe.losses(modules, (thirds.clone(), thirds, torch.zeros(1))):
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
