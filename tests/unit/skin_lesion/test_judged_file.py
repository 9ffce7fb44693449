from pathlib import Path

import pytest
import torch
import yaml
from skin_images import SMALL, make_recipe, write_set

from trainyard_trainer.card import Card
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.judged_file import judge_file


def test_file_of_weights_has_the_metrics_of_its_network(tmp_path: Path) -> None:
    recipe = make_recipe(write_set(tmp_path / "data"))
    torch.manual_seed(3)
    network = recipe.build_modules()["model"].eval()
    torch.save(network.state_dict(), tmp_path / "last.ckpt")
    samples = recipe.build_data(recipe.stages()[0]).test
    with torch.no_grad():
        outputs = recipe.evaluate_batch(
            {"model": network}, samples.batch(torch.arange(len(samples)), 0)
        )
    expected = recipe.compute_metrics("test", outputs)
    layer = yaml.safe_load(yaml.safe_dump(recipe.config.model_dump(mode="json")))
    found = judge_file(
        Card(recipe="skin-lesion", config=layer),
        weights=tmp_path / "last.ckpt",
        data_path=tmp_path / "data",
    )
    assert found == pytest.approx({f"test_{name}": value for name, value in expected.items()})


def test_weights_of_another_network_are_refused_in_one_sentence(tmp_path: Path) -> None:
    recipe = make_recipe(write_set(tmp_path / "data"))
    torch.save(recipe.build_modules()["model"].state_dict(), tmp_path / "last.ckpt")
    with pytest.raises(ConfigurationError) as caught:
        judge_file(
            Card(recipe="skin-lesion", config=SMALL),
            ["model.architecture.classifier_hidden=64"],
            weights=tmp_path / "last.ckpt",
            data_path=tmp_path / "data",
        )
    text = str(caught.value)
    assert text.startswith(f"--checkpoint: '{tmp_path}/last.ckpt' does not hold weights of this ")
    assert text.endswith("give the configuration that it was trained with.")
    assert "\n" not in text
