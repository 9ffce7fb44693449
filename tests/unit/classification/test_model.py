import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainyard_trainer.config import build_config
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.classification import recipe
from trainyard_trainer.recipes.classification.config import Config, ModelConfig
from trainyard_trainer.recipes.classification.model import build_model, count_parameters


@pytest.mark.parametrize(
    ("architecture", "classes", "parameters"),
    [
        ("small_cnn", 10, 24_346),
        ("resnet18", 2, 11_177_538),
        ("resnet50", 1000, 25_557_032),
        ("mobilenet_v2", 1000, 3_504_872),
        ("efficientnet_b0", 1000, 5_288_548),
    ],
)
def test_network_has_the_published_number_of_parameters(
    architecture: str, classes: int, parameters: int
) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(architecture=architecture), classes)
    assert count_parameters(model) == parameters


@pytest.mark.parametrize("size", [8, 32, 65])
def test_small_cnn_takes_any_size_from_8_pixels(size: int) -> None:
    model = build_model(ModelConfig(), 10)
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 10)


def test_published_weights_are_loaded_and_only_the_last_layer_is_new(tmp_path) -> None:
    published = build_model(ModelConfig(architecture="mobilenet_v2"), 1000)
    file = tmp_path / "mobilenet.pth"
    torch.save(published.state_dict(), file)
    config = ModelConfig(architecture="mobilenet_v2", weights="DEFAULT", weights_file=file)
    model = build_model(config, 3)
    old, new = published.state_dict(), model.state_dict()
    assert [key for key in old if not torch.equal(old[key], new[key])] == [
        "classifier.1.weight",
        "classifier.1.bias",
    ]
    assert new["classifier.1.weight"].shape == (3, 1280)


def test_absent_weights_are_an_error_that_names_the_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        build_model(ModelConfig(architecture="resnet18", weights="DEFAULT"), 2)
    assert str(caught.value) == (
        f"model.weights: no file '{tmp_path}/hub/checkpoints/resnet18-f37072fd.pth' with the "
        "published weights of 'resnet18'; put it there, name it in model.weights_file, or write "
        "weights: null to start from scratch."
    )


def test_a_file_with_other_weights_is_refused(tmp_path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"fc.bias": torch.zeros(3)}, file)
    with pytest.raises(ConfigurationError, match="does not hold the weights of 'resnet18'"):
        build_model(
            ModelConfig(architecture="resnet18", weights="DEFAULT", weights_file=file), classes=2
        )


def test_small_cnn_with_published_weights_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'small_cnn' has no published weights"):
        build_config(Config, [{"model": {"weights": "DEFAULT"}}])


def test_the_configuration_imports_no_torch() -> None:
    code = (
        "import sys, trainyard_trainer.recipes.classification.config as config; config.Config(); "
        "sys.exit('torch' in sys.modules)"
    )
    paths = ":".join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": paths}, check=False)
    assert done.returncode == 0


def test_the_small_network_needs_no_torchvision(monkeypatch) -> None:
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, None)
    build_model(ModelConfig(), 10)
    with pytest.raises(ImportError):
        build_model(ModelConfig(architecture="resnet18"), 10)


def test_no_module_imports_torchvision_when_it_is_imported_itself() -> None:
    sources = [file.read_text() for file in Path(recipe.__file__).parent.glob("*.py")]
    assert not [text for text in sources if re.search("^(from|import) torchvision", text, re.M)]
