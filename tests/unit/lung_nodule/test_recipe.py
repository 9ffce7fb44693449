"""The recipe as the engine sees it, on scans of a few thousand voxels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nodule_scans import SMALL, write_luna

from trainyard_trainer.config import build_config
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipe import Data, Site
from trainyard_trainer.recipes.lung_nodule.config import Config
from trainyard_trainer.recipes.lung_nodule.recipe import LungNodule
from trainyard_trainer.recipes.lung_nodule.synth import SHAPE, main
from trainyard_trainer.registry import config_class, load_recipe


def make_recipe(root: Path | None, *layers: dict[str, Any]) -> LungNodule:
    site = Site(data_path=root, scratch=Path("unused"), device=torch.device("cpu"))
    torch.manual_seed(0)
    return LungNodule(build_config(Config, [SMALL, *layers]), site)


def cut_batch(recipe: LungNodule, data: Data) -> Any:
    assert data.augment is not None and data.collate is not None
    cuts = [
        data.augment(data.train[index], np.random.default_rng(index))
        for index in range(len(data.train))
    ]
    return data.collate(cuts)


def evaluated(recipe: LungNodule, split: str = "validation") -> dict[str, Any]:
    modules = recipe.build_modules()
    data = recipe.build_data(recipe.stages()[0])
    modules["model"].eval()
    with torch.no_grad():
        return dict(recipe.evaluate_batch(modules, [getattr(data, split)[0]]))


def test_it_is_found_by_its_name() -> None:
    assert load_recipe("lung-nodule") is LungNodule
    assert config_class("lung-nodule") is Config


def test_a_step_gives_a_loss_with_its_components_and_gradients_everywhere(tmp_path: Path) -> None:
    recipe = make_recipe(write_luna(tmp_path))
    modules = recipe.build_modules()
    data = recipe.build_data(recipe.stages()[0])
    (loss,) = recipe.losses(modules, cut_batch(recipe, data))
    assert set(loss.metrics) == {"detection", "regression", "triage"}
    loss.value.backward()
    assert all(p.grad is not None for p in modules["model"].parameters())


@pytest.mark.parametrize("kind", ["focal", "dice"])
def test_single_losses_have_no_heads_and_no_size(tmp_path: Path, kind: str) -> None:
    recipe = make_recipe(write_luna(tmp_path), {"training": {"loss": {"type": kind}}})
    modules = recipe.build_modules()
    (loss,) = recipe.losses(modules, cut_batch(recipe, recipe.build_data(recipe.stages()[0])))
    assert not loss.metrics
    metrics = recipe.compute_metrics("validation", evaluated(recipe))
    assert set(metrics) == {"loss", "detection_dice", "froc_score", "center_accuracy"}


def test_metrics_are_the_guides_and_the_test_has_an_interval(tmp_path: Path) -> None:
    recipe = make_recipe(write_luna(tmp_path), {"validation": {"blob_baseline": True}})
    outputs = evaluated(recipe, "test")
    losses = {"loss", "detection", "regression", "triage"}
    named = {"detection_dice", "froc_score", "center_accuracy", "size_accuracy"}
    validation = set(recipe.compute_metrics("validation", outputs))
    assert validation == losses | named | {"baseline_froc_score"}
    test = set(recipe.compute_metrics("test", outputs))
    assert test - validation == {"froc_score_low", "froc_score_high"}


@pytest.mark.parametrize(
    ("name", "mode"), [("froc_score", "max"), ("loss", "min"), ("center_accuracy", "max")]
)
def test_the_best_checkpoint_is_by_the_configured_metric(name: str, mode: str) -> None:
    best = make_recipe(None, {"validation": {"save_best_metric": name}}).best
    assert (best.name, best.mode) == (f"val_{name}", mode)


def test_test_time_augmentation_is_the_mean_over_views(tmp_path: Path) -> None:
    tta = {"inference": {"tta": {"enabled": True, "augmentation_types": ["flip_x"]}}}
    plain, averaged = (make_recipe(write_luna(tmp_path), layer) for layer in ({}, tta))
    one, other = evaluated(plain), evaluated(averaged)
    assert not torch.equal(one["loss"], other["loss"])


def test_pictures_are_the_froc_curve_and_slices_of_scans(tmp_path: Path) -> None:
    recipe = make_recipe(write_luna(tmp_path), {"validation": {"blob_baseline": True}})
    pictures = recipe.pictures("validation", evaluated(recipe), {})
    assert set(pictures) == {"froc", "samples"}
    assert all(picture.render().shape[2] == 3 for picture in pictures.values())
    assert len(pictures["froc"].lines) == 2  # type: ignore[union-attr]


def test_the_end_leaves_candidates_curve_and_summary(tmp_path: Path) -> None:
    class Pages:
        def __init__(self) -> None:
            self.pages: dict[str, str] = {}

        def text(self, name: str, text: str) -> None:
            self.pages[name] = text

        def file(self, name: str, data: bytes) -> None:
            self.pages[name] = data.decode()

    recipe, sink = make_recipe(write_luna(tmp_path)), Pages()
    outputs = evaluated(recipe, "test")
    recipe.finish({"test": outputs}, {"test_froc_score": 0.5}, sink)  # type: ignore[arg-type]
    assert list(sink.pages) == [
        "reports/candidates_test.csv",
        "reports/froc_test.csv",
        "summary.txt",
    ]
    head, *rows = sink.pages["reports/candidates_test.csv"].splitlines()
    assert head == "seriesuid,coordX,coordY,coordZ,probability,diameter_mm,malignancy"
    assert len(rows) == len(outputs["candidates"][0])
    assert sink.pages["summary.txt"] == (
        "scans: 1 train, 1 val, 1 test\nparameters: 1256\nsteps: 0\ntest_froc_score: 0.5000\n"
        "skipped: 0\n"
    )


@pytest.mark.parametrize("wrapped", [False, True])
def test_pretrained_weights_are_taken_over_by_name(tmp_path: Path, wrapped: bool) -> None:
    write_luna(tmp_path)
    source = make_recipe(tmp_path).build_modules()["model"]
    state = {f"module.{k}" if wrapped else k: v + 1 for k, v in source.state_dict().items()}
    torch.save({"model": state} if wrapped else state, tmp_path / "weights.pth")
    layer = {"training": {"pretrained": {"checkpoint": "weights.pth"}}}
    network = make_recipe(tmp_path, layer).build_modules()["model"]
    for name, value in source.state_dict().items():
        assert torch.equal(network.state_dict()[name], value + 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file '{}'; fetch one with `trainyard fetch`."),
        (
            {"other": torch.zeros(1)},
            "none of the 1 tensors of '{}' fits the network by name and shape; train with the same "
            "model section.",
        ),
    ],
)
def test_weights_that_cannot_be_used_are_named(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "weights.pth"
    if content is not None:
        torch.save(content, file)
    layer = {"training": {"pretrained": {"checkpoint": str(file)}}}
    with pytest.raises(ConfigurationError) as caught:
        make_recipe(tmp_path, layer).build_modules()
    expected = f"training.pretrained.checkpoint: {message.format(file)}"
    assert str(caught.value) == expected


def test_a_frozen_encoder_learns_neither_weights_nor_statistics(tmp_path: Path) -> None:
    write_luna(tmp_path)
    torch.save(make_recipe(tmp_path).build_modules()["model"].state_dict(), tmp_path / "w.pt")
    pretrained = {"checkpoint": "w.pt", "freeze_encoder": True, "freeze_epochs": 1}
    recipe = make_recipe(tmp_path, {"training": {"epochs": 2, "pretrained": pretrained}})
    network = recipe.build_modules()["model"]
    frozen, free = recipe.stages()
    names = {name.split(".")[0] for name, _ in network.named_parameters()}
    assert frozen.trainable is not None
    assert {name.removeprefix("model.") for name in frozen.trainable} == names - {"encoder"}
    assert free.trainable is None
    network.train()
    recipe.begin_stage(frozen, recipe.build_data(frozen))
    assert not network.encoder.training and network.decoder.training  # type: ignore[union-attr]


def test_a_curriculum_that_leaves_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    layer = {
        "data": {"random_patches_per_nodule": 0},
        "training": {"curriculum": {"stages": [{"epochs": 1, "min_diameter": 30}]}},
    }
    recipe = make_recipe(write_luna(tmp_path), layer)
    recipe.build_modules()
    with pytest.raises(ConfigurationError) as caught:
        recipe.build_data(recipe.stages()[0])
    assert str(caught.value) == (
        "stage 'train': no nodule has 30 mm or more and data.random_patches_per_nodule is 0; lower "
        "min_diameter."
    )


def test_no_data_at_all_is_an_error_that_names_the_keys() -> None:
    with pytest.raises(ConfigurationError) as caught:
        _ = make_recipe(None).scans
    assert str(caught.value) == (
        "data.path: is not set; write LUNA16's folder, data.train_dir, or spec.dataset."
    )


def test_synthetic_scans_have_lunas_layout_and_are_marked(tmp_path: Path) -> None:
    main([str(tmp_path), "--scans", "3", "--seed", "3"])
    mark = json.loads((tmp_path / "SYNTHETIC.json").read_text())
    assert (mark["seed"], mark["version"]) == (3, 1)
    recipe = make_recipe(tmp_path, {"data": {"annotations": "annotations_malignancy.csv"}})
    scans = [scan for found in recipe.scans.values() for scan in found]
    assert [scan.file.parent.name for scan in scans] == ["subset0", "subset1", "subset2"]
    for scan in scans:
        assert scan.grid.shape == SHAPE
        assert len(set(scan.grid.spacing)) > 1 and all(scan.grid.origin)
        assert scan.nodules
    assert {one.is_malignant for scan in scans for one in scan.nodules} <= {True, False}


def test_the_same_seed_draws_the_same_scans(tmp_path: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        main([str(tmp_path / name), "--scans", "1", "--seed", seed])
    raws = [next((tmp_path / name / "subset0").glob("*.raw")).read_bytes() for name in "abc"]
    assert raws[0] == raws[1] != raws[2]
