import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from skin_images import SMALL, make_recipe, write_set
from torch.nn import functional as F

from trainyard_trainer import wandb_run
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.skin_lesion.data import (
    HAM10000DataModule,
    LimitedSampler,
    build_augment,
    saturate,
)
from trainyard_trainer.recipes.skin_lesion.synth import write_lesions
from trainyard_trainer.registry import config_class, load_recipe
from trainyard_trainer.sampler import sample_generator


def test_it_is_found_by_its_name() -> None:
    assert load_recipe("skin-lesion").__name__ == "SkinLesion"
    assert config_class("skin-lesion").__module__.endswith("skin_lesion.config")


def test_loss_is_cross_entropy_of_normalised_images_with_class_weights(tmp_path: Path) -> None:
    recipe = make_recipe(write_set(tmp_path), SMALL, "training.class_weights=balanced")
    network = recipe.build_modules()["model"].eval()
    images, target = recipe.build_data(recipe.stages()[0]).train.batch(torch.arange(4), 0)
    (loss,) = recipe.losses({"model": network}, (images, target))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = ((images.permute(0, 2, 3, 1) / 255 - mean) / std).permute(0, 3, 1, 2)
    numbers = recipe.found.splits["train"].counts(2)
    weight = torch.tensor([sum(numbers) / (2 * n) for n in numbers])
    expected = F.cross_entropy(network(normalised), target, weight=weight)
    assert loss.value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_pictures_and_notes_are_there_for_every_split(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "images" / "ISIC_00000.jpg").unlink()
    recipe = make_recipe(tmp_path, SMALL, "data.on_bad=skip")
    modules, data = recipe.build_modules(), recipe.build_data(recipe.stages()[0])
    size = len(data.test)
    gathered = recipe.evaluate_batch(modules, data.test.batch(torch.arange(size), 0))
    metrics = recipe.compute_metrics("test", gathered)
    shown = recipe.pictures("test", gathered, metrics)
    assert list(shown) == ["roc", "confusion_matrix", "worst_mistakes"]
    assert all(picture.render().shape[2] == 3 for picture in shown.values())
    notes = recipe.notes()
    assert notes["images of test"] == "2 benign, 2 malignant"
    assert notes["skipped images"].startswith("1: data: ")


def test_main_metric_is_the_monitored_one(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, SMALL, "training.monitor_metric=val_f1_score")
    assert recipe.best == ("val_f1_score", "max")
    assert make_recipe(tmp_path).best == ("val_loss", "min")


def test_limited_epochs_have_other_samples_each_time() -> None:
    sampler = LimitedSampler(100, seed=0, limit=20)
    epochs = [sampler.order(epoch).tolist() for epoch in (0, 1, 0)]
    assert len(sampler) == 20 and sampler.steps(5) == 4
    assert epochs[0] == epochs[2] != epochs[1]
    assert [len(set(one)) for one in epochs] == [20, 20, 20]
    assert sampler.take(0, 15, 5)[0].tolist() == epochs[0][15:]


def test_limits_count_batches_or_shares(tmp_path: Path) -> None:
    write_set(tmp_path, lesions=20)
    words = ("training.batch_size=4", "training.limit_train_batches=3")
    recipe = make_recipe(tmp_path, SMALL, *words, "training.limit_val_batches=0.5")
    data = recipe.build_data(recipe.stages()[0])
    assert data.sampler is not None and len(data.sampler) == 12
    assert data.validation is not None and len(data.validation) == 4


def test_augmentation_follows_its_generator_and_can_be_off(tmp_path: Path) -> None:
    plain = make_recipe(write_set(tmp_path)).config.data
    assert build_augment(plain) is None
    augment = build_augment(plain.model_copy(update={"augment": True}))
    assert augment is not None
    image = torch.randint(0, 256, (3, 16, 16), generator=torch.Generator().manual_seed(0))
    sample = (image.to(torch.uint8), torch.tensor(1))
    one, other, third = (augment(sample, sample_generator(0, e, 5))[0] for e in (0, 0, 1))
    assert torch.equal(one, other) and not torch.equal(one, third)


def test_saturation_zero_is_grey_and_one_is_the_image() -> None:
    image = torch.tensor([200, 100, 50], dtype=torch.uint8).reshape(3, 1, 1)
    assert torch.equal(saturate(image, 1.0), image)
    assert saturate(image, 0.0).unique().tolist() == [124]


def test_data_module_works_on_its_own(tmp_path: Path) -> None:
    dm = HAM10000DataModule(write_set(tmp_path), batch_size=4, image_size=24, augment=True)
    dm.setup("fit")
    images, labels = next(iter(dm.train_dataloader()))
    assert (images.shape, images.dtype) == ((4, 3, 24, 24), torch.float32)
    assert (labels.shape, labels.dtype) == ((4,), torch.int64)
    assert sum(len(labels) for _, labels in dm.val_dataloader()) == 4
    assert dm.classes == ["benign", "malignant"]


def test_wandb_without_its_package_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_run, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigurationError) as caught:
        make_recipe(tmp_path, SMALL, "wandb.enabled=true")
    assert str(caught.value) == (
        "wandb.enabled: the package 'wandb' is not installed; pip install wandb, or write "
        "wandb.enabled: false."
    )


def test_seven_classes_stay_available(tmp_path: Path) -> None:
    write_lesions(tmp_path, lesions=21, size=32)
    recipe = make_recipe(tmp_path, SMALL, "model.num_classes=7")
    assert len(recipe.found.classes) == 7
    assert recipe.build_modules()["model"](torch.zeros(2, 3, 16, 16)).shape == (2, 7)


def test_stand_in_is_marked_and_the_same_for_a_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_lesions(tmp_path / name, lesions=24, size=32, seed=5)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) > 24
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert json.loads((tmp_path / "a" / "SYNTHETIC.json").read_text())["seed"] == 5


def test_configuration_and_generator_import_no_torch() -> None:
    code = (
        "import sys; from trainyard_trainer.recipes.skin_lesion import config, synth; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
