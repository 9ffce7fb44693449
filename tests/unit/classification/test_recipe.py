from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from classification_images import write_folders

from trainyard_operator.api import TrainingJob
from trainyard_trainer.config import build_config
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipe import Site
from trainyard_trainer.recipes.classification.config import Config, LossConfig
from trainyard_trainer.recipes.classification.losses import build_loss
from trainyard_trainer.recipes.classification.recipe import Classification
from trainyard_trainer.registry import config_class, load_recipe

CONFIGS = Path(__file__).parents[3] / "configs"
SMALL: dict[str, Any] = {"data": {"image_size": 16}}


class Pages:
    """A Sink that keeps what it is given."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.images: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}

    def text(self, name: str, text: str) -> None:
        self.texts[name] = text

    def file(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def image(self, tag: str, image: Any) -> None:
        self.images[tag] = image

    def scalars(self, values: Any) -> None:
        raise AssertionError(values)


def make_recipe(root: Path | None, layer: dict[str, Any] = SMALL) -> Classification:
    site = Site(data_path=root, scratch=Path("unused"), device=torch.device("cpu"))
    return Classification(build_config(Config, [layer]), site)


def evaluated(recipe: Classification) -> dict[str, Any]:
    modules = recipe.build_modules()
    data = recipe.build_data(recipe.stages()[0])
    return dict(recipe.evaluate_batch(modules, data.train.batch(torch.arange(6), 0)))


def test_it_is_found_by_its_name() -> None:
    assert load_recipe("classification") is Classification
    assert config_class("classification") is Config


def test_the_network_has_as_many_outputs_as_the_data_has_classes(tmp_path) -> None:
    write_folders(tmp_path, classes=("ants", "bees", "wasps"))
    model = make_recipe(tmp_path).build_modules()["model"]
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


def test_another_number_of_classes_is_refused_in_the_guides_words(tmp_path) -> None:
    write_folders(tmp_path, classes=("ants", "bees", "wasps"))
    with pytest.raises(ConfigurationError) as caught:
        make_recipe(tmp_path, {"model": {"num_classes": 2}}).build_modules()
    assert str(caught.value) == (
        "Model output size (2) doesn't match dataset classes (3); write model.num_classes: 3, or "
        "leave it out."
    )


def test_no_data_at_all_is_an_error_that_names_the_keys() -> None:
    with pytest.raises(ConfigurationError, match=r"data\.path: is not set; .* or spec\.dataset"):
        make_recipe(None).build_modules()


def test_the_loss_is_cross_entropy_of_normalised_images(tmp_path) -> None:
    recipe = make_recipe(write_folders(tmp_path))
    modules = recipe.build_modules()
    images, target = recipe.build_data(recipe.stages()[0]).train.batch(torch.arange(6), 0)
    (loss,) = recipe.losses(modules, (images, target))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images.permute(0, 2, 3, 1) / 255 - mean) / std
    logits = modules["model"](normalised.permute(0, 3, 1, 2))
    expected = torch.nn.functional.cross_entropy(logits, target)
    assert loss.value.item() == pytest.approx(expected.item(), rel=1e-5)
    accuracy = (logits.argmax(dim=1) == target).float().mean()
    assert loss.metrics["accuracy"].item() == pytest.approx(accuracy.item())


def test_balanced_weights_make_rare_classes_count_as_much_as_frequent_ones() -> None:
    loss = build_loss(LossConfig(class_weights="balanced"), class_counts=[30, 10])
    assert loss.weight is not None
    assert (loss.weight * torch.tensor([30, 10])).tolist() == [20, 20]


def test_the_reported_loss_ignores_weights_and_smoothing(tmp_path) -> None:
    write_folders(tmp_path)
    options = {"training": {"loss": {"label_smoothing": 0.3, "class_weights": "balanced"}}}
    torch.manual_seed(0)
    plain = evaluated(make_recipe(tmp_path))
    torch.manual_seed(0)
    assert torch.equal(plain["loss"], evaluated(make_recipe(tmp_path, SMALL | options))["loss"])


def test_metrics_are_loss_accuracy_and_macro_f1(tmp_path) -> None:
    recipe = make_recipe(write_folders(tmp_path))
    gathered = {
        "loss": torch.tensor([1.0, 2.0, 3.0, 4.0]),
        "predicted": torch.tensor([0, 0, 1, 1]),
        "target": torch.tensor([0, 0, 1, 0]),
    }
    metrics = recipe.compute_metrics("validation", gathered)
    assert metrics == pytest.approx({"loss": 2.5, "accuracy": 0.75, "macro_f1": (0.8 + 2 / 3) / 2})


def test_augmentation_is_off_by_default_and_left_to_the_engine(tmp_path) -> None:
    write_folders(tmp_path)
    assert make_recipe(tmp_path).build_data(make_recipe(tmp_path).stages()[0]).augment is None
    recipe = make_recipe(tmp_path, {"data": {"augmentation": {"horizontal_flip": 1}}})
    data = recipe.build_data(recipe.stages()[0])
    assert data.augment is not None
    assert not hasattr(data.train, "batch")  # The engine augments single samples only.
    image, target = data.train[3]
    changed, same = data.augment((image, target), np.random.default_rng(0))
    assert torch.equal(changed, image.flip(2))
    assert same == target


def test_the_end_leaves_a_report_of_each_split_and_a_summary(tmp_path) -> None:
    recipe = make_recipe(write_folders(tmp_path))
    outputs = evaluated(recipe)
    pages = Pages()
    gathered = {"train": outputs, "validation": outputs, "test": outputs}
    recipe.finish(gathered, {"val_accuracy": 0.5, "test_accuracy": 0.25}, pages)
    reports = [f"reports/classification_report_{name}.txt" for name in ("train", "val", "test")]
    assert list(pages.texts) == [*reports, "summary.txt"]
    table = pages.files["reports/confusion_matrix_val.csv"].decode()
    head, ants, bees = (line.split(",") for line in table.splitlines())
    assert (head, ants[0], bees[0]) == (["true \\ predicted", "ants", "bees"], "ants", "bees")
    assert sum(map(int, ants[1:] + bees[1:])) == len(outputs["target"])
    assert pages.texts["summary.txt"] == (
        "dataset: dataset {'train': 6, 'val': 6, 'test': 6}\n"
        "classes: ants, bees\n"
        "architecture: small_cnn\n"
        "parameters: 23826\n"
        "steps: 0\n"
        "test_accuracy: 0.2500\n"
        "val_accuracy: 0.5000\n"
    )


def test_every_evaluation_draws_its_confusion_matrix(tmp_path) -> None:
    recipe = make_recipe(write_folders(tmp_path))
    shown = recipe.pictures("validation", evaluated(recipe), {})
    assert list(shown) == ["confusion_matrix"]
    assert shown["confusion_matrix"].render().shape == (168, 168, 3)


def test_images_that_cannot_be_read_are_left_out_and_counted(tmp_path) -> None:
    write_folders(tmp_path)
    cut = tmp_path / "train" / "ants" / "0.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    recipe = make_recipe(tmp_path, {"data": {"image_size": 16, "on_bad": "skip"}})
    assert len(recipe.folder.splits["train"].files) == 5
    sentence = f"data: image '{cut}' is cut off; fetch it again."
    assert recipe.notes() == {"skipped images": f"1: {sentence}"}
    strict = make_recipe(tmp_path)
    with pytest.raises(ConfigurationError, match=r"cannot read image '.*/train/ants/0.png' \(.*"):
        strict.build_data(strict.stages()[0]).train.batch(torch.arange(6), 0)


def test_the_digits_job_is_valid_and_its_configuration_too() -> None:
    text = (CONFIGS / "digits.yaml").read_text()
    job = TrainingJob.model_validate(yaml.safe_load(text))
    assert job.spec.recipe == "classification"
    assert job.spec.nodes == 2
    config = build_config(Config, [job.spec.config or {}])
    assert (config.training.batch_size, config.training.epochs) == (64, 10)
    assert config.training.schedule.name == "one_cycle"
