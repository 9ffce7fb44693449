from pathlib import Path

import pytest
import torch
from recipe_cases import CASES, Case

from trainyard_trainer.card import Card
from trainyard_trainer.config import build_config
from trainyard_trainer.recipe import Site
from trainyard_trainer.registry import load_recipe


@pytest.fixture(params=CASES, ids=[case.recipe for case in CASES], scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def data(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(case.recipe)
    case.write(folder)
    return folder


@pytest.fixture(scope="module")
def card(case: Case, data: Path) -> Card:
    """As a run leaves it."""
    recipe = load_recipe(case.recipe)(build_config_of(case), site(data))
    recipe.build_modules()
    config = recipe.config.model_dump(mode="json")
    return Card(recipe=case.recipe, config=config, labels=recipe.labels(), data_path=data)


@pytest.fixture(scope="module")
def weights(case: Case, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a checkpoint of freshly drawn networks holds."""
    torch.manual_seed(5)
    modules = load_recipe(case.recipe)(build_config_of(case), site(data)).build_modules()
    states = {name: module.state_dict() for name, module in modules.items()}
    file = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(states if len(states) > 1 else next(iter(states.values())), file)
    return file


def build_config_of(case: Case):
    return build_config(load_recipe(case.recipe).config_class, [case.config])


def site(data: Path) -> Site:
    return Site(data_path=data, scratch=Path("unused"), device=torch.device("cpu"))
