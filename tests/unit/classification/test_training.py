from pathlib import Path

import pytest
import torch
import yaml

from trainyard_trainer.config import build_config
from trainyard_trainer.digits import write_digits
from trainyard_trainer.loader import Split, TrainLoader
from trainyard_trainer.recipe import Samples, Site
from trainyard_trainer.recipes.classification.config import Config
from trainyard_trainer.recipes.classification.recipe import Classification

pytest.importorskip("sklearn")
DIGITS = Path(__file__).parents[3] / "configs" / "digits.yaml"


def train(recipe: Classification) -> dict[str, float]:
    """Every epoch of the plan on this process alone; the test metrics of the final weights."""
    (stage,), training = recipe.stages(), recipe.config.training
    torch.manual_seed(training.seed)
    modules, data = recipe.build_modules(), recipe.build_data(stage)
    size = training.batch_size
    split = Split(rank=0, world_size=1, batch_size=size, micro_batch_size=size)
    loader = TrainLoader(data, split, training, recipe.site.device)
    optimizers = recipe.build_optimizers(stage, modules)
    optimizer = optimizers["main"]
    schedule = recipe.build_schedules(stage, optimizers, loader.steps_per_epoch)["main"]
    steps = (step for epoch in range(stage.epochs) for step in loader.epoch(epoch))
    for number, step in enumerate(steps):
        optimizer.param_groups[0]["lr"] = training.learning_rate * schedule.factor(number)
        for loss in recipe.losses(modules, step.batches[0]):
            optimizer.zero_grad()
            loss.value.backward()
            optimizer.step()
    assert data.test is not None
    return evaluate(recipe, modules, data.test)


@torch.no_grad()
def evaluate(
    recipe: Classification, modules: dict[str, torch.nn.Module], samples: Samples
) -> dict[str, float]:
    modules["model"].eval()
    batch = samples.batch(torch.arange(len(samples)), 0)  # type: ignore[attr-defined]
    return recipe.compute_metrics("test", recipe.evaluate_batch(modules, batch))


@pytest.mark.slow
def test_the_digits_job_reaches_96_percent_on_the_images_held_out(tmp_path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    write_digits(tmp_path)
    spec = yaml.safe_load(DIGITS.read_text())["spec"]
    site = Site(data_path=tmp_path, scratch=tmp_path, device=torch.device("cpu"))
    metrics = train(Classification(build_config(Config, [spec["config"]]), site))
    torch.set_num_threads(threads)
    assert metrics["accuracy"] >= 0.96
    assert metrics["macro_f1"] >= 0.96
