from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from unit.mar_gan.slices import MODEL, write_spineweb, write_syndeeplesion

from trainyard_trainer.config import build_config
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipe import Site
from trainyard_trainer.recipes.mar_gan.config import Config
from trainyard_trainer.recipes.mar_gan.recipe import MarGan
from trainyard_trainer.registry import config_class, load_recipe

BASE: dict[str, Any] = {"model": MODEL, "data": {"patch_size": 32}}


class Pages:
    """A Sink that keeps what it is given."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.files: dict[str, bytes] = {}

    def text(self, name: str, text: str) -> None:
        self.texts[name] = text

    def file(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def image(self, tag: str, image: Any) -> None:
        raise AssertionError(tag)

    def picture(self, name: str, picture: Any) -> None:
        raise AssertionError(name)

    def scalars(self, values: Any) -> None:
        raise AssertionError(values)


def make_recipe(root: Path | None, *layers: dict[str, Any], overrides: tuple[str, ...] = ()):
    site = Site(data_path=root, scratch=Path("unused"), device=torch.device("cpu"))
    return MarGan(build_config(Config, [BASE, *layers], list(overrides)), site)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_syndeeplesion(tmp_path_factory.mktemp("deep"))


def first_batch(recipe: MarGan) -> Any:
    return recipe.build_data(recipe.stages()[0]).train.batch(torch.arange(2), 0)


def evaluated(recipe: MarGan, split: str = "test") -> dict[str, Any]:
    samples = getattr(recipe.build_data(recipe.stages()[0]), split)
    modules = {name: one.eval() for name, one in recipe.build_modules().items()}
    with torch.no_grad():
        return dict(recipe.evaluate_batch(modules, samples.batch(torch.arange(len(samples)), 0)))


def test_it_is_found_by_its_name() -> None:
    assert load_recipe("mar-gan") is MarGan
    assert config_class("mar-gan") is Config


def test_the_discriminator_learns_twice_as_fast_and_is_stepped_first(deep: Path) -> None:
    recipe = make_recipe(deep)
    optimizers = recipe.build_optimizers(recipe.stages()[0], recipe.build_modules())
    rates = {name: one.param_groups[0]["lr"] for name, one in optimizers.items()}
    assert list(rates.items()) == [("discriminator", 2e-4), ("generator", 1e-4)]
    assert all(type(one) is torch.optim.Adam for one in optimizers.values())
    assert all(one.param_groups[0]["betas"] == (0.5, 0.999) for one in optimizers.values())


def test_each_network_may_have_its_own_rate_and_betas(deep: Path) -> None:
    own = {
        "training": {
            "optimizer": {"generator": {"lr": 1e-5, "betas": [0.9, 0.99]}, "discriminator": {}}
        }
    }
    recipe = make_recipe(deep, own)
    optimizers = recipe.build_optimizers(recipe.stages()[0], recipe.build_modules())
    groups = {name: one.param_groups[0] for name, one in optimizers.items()}
    assert (groups["generator"]["lr"], groups["discriminator"]["lr"]) == (1e-5, 2e-5)
    assert groups["generator"]["betas"] == (0.9, 0.99)
    assert groups["discriminator"]["betas"] == (0.5, 0.999)


def test_two_times_four_patches_are_one_step_of_eight(deep: Path) -> None:
    overrides = ("batch_size=2", "accumulation_steps=4")
    recipe = make_recipe(deep, overrides=overrides)
    assert recipe.stages()[0].batch_size == 8
    assert recipe.config.training.micro_batch_size == 2


def test_the_generators_loss_is_the_weighted_sum_of_its_parts(deep: Path) -> None:
    recipe = make_recipe(deep)
    modules, batch = recipe.build_modules(), first_batch(recipe)
    judge, generate = recipe.losses(modules, batch)
    assert (judge.optimizer, generate.optimizer) == ("discriminator", "generator")
    weights = {
        "adversarial": 0.1,
        "feature_matching": 10,
        "reconstruction": 1,
        "edge": 0.2,
        "physics": 0.02,
        "metal_consistency": 0.5,
    }
    assert set(generate.metrics) == {f"{name}_loss" for name in weights}
    total = sum(weight * generate.metrics[f"{name}_loss"] for name, weight in weights.items())
    assert generate.value.item() == pytest.approx(float(torch.as_tensor(total).detach()), rel=1e-5)


def test_the_discriminators_loss_leaves_the_generator_alone(deep: Path) -> None:
    recipe = make_recipe(deep)
    modules = recipe.build_modules()
    next(recipe.losses(modules, first_batch(recipe))).value.backward()
    assert all(one.grad is None for one in modules["generator"].parameters())
    assert all(one.grad is not None for one in modules["discriminator"].parameters())


@pytest.mark.parametrize("variant", ["baseline", "A0"])
def test_mse_alone_needs_no_discriminator(deep: Path, variant: str) -> None:
    recipe = make_recipe(deep, {"variant": variant})
    modules, batch = recipe.build_modules(), first_batch(recipe)
    assert list(modules) == ["generator"]
    assert list(recipe.build_optimizers(recipe.stages()[0], modules)) == ["generator"]
    (loss,) = recipe.losses(modules, batch)
    expected = nn.functional.mse_loss(modules["generator"](batch.artefact), batch.target)
    assert loss.value.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("variant", ["v1", "v2", "v3", "v4", "v5", "full", "A4", "A8", "B2"])
def test_every_variant_trains(deep: Path, variant: str) -> None:
    single = {"model": {"discriminator": {"num_scales": 1}}}
    recipe = make_recipe(deep, {"variant": variant}, single)
    modules, batch = recipe.build_modules(), first_batch(recipe)
    for loss in recipe.losses(modules, batch):
        loss.value.backward()
        assert loss.value.isfinite()


def test_the_baseline_trains_against_a_dcgan(deep: Path) -> None:
    recipe = make_recipe(deep, {"variant": "dcgan"})
    modules, batch = recipe.build_modules(), first_batch(recipe)
    judge, generate = recipe.losses(modules, batch)
    assert type(modules["discriminator"]).__name__ == "DCGAN"
    assert set(generate.metrics) == {"adversarial_loss", "mse_loss"}
    assert judge.value.isfinite()


def test_scores_are_of_the_output_and_of_both_inputs(deep: Path) -> None:
    recipe = make_recipe(deep)
    outputs = evaluated(recipe)
    scores = recipe.compute_metrics("test", outputs)
    names = ["psnr", "ssim", "mae", "rmse", "mae_metal", "psnr_metal", "psnr_band", "psnr_rest"]
    expected = {prefix + name for prefix in ("", "input_", "li_") for name in names}
    assert set(scores) == expected | {"gain_over_input", "gain_over_li"}
    assert scores["gain_over_li"] == pytest.approx(scores["psnr"] - scores["li_psnr"])
    assert scores["li_psnr"] > scores["input_psnr"] > scores["psnr"]


def test_spineweb_has_no_interpolated_image_to_compare_with(tmp_path: Path) -> None:
    recipe = make_recipe(write_spineweb(tmp_path))
    scores = recipe.compute_metrics("test", evaluated(recipe))
    assert not any(name.startswith("li_") or name == "gain_over_li" for name in scores)


def test_train_and_test_may_lie_apart(tmp_path: Path) -> None:
    root = write_spineweb(tmp_path)
    beside = make_recipe(None, {"data": {"train_path": str(root / "train")}})
    named = make_recipe(
        None, {"data": {"train_path": str(root / "train"), "test_path": str(root / "test")}}
    )
    for recipe in (beside, named):
        assert recipe.listings["test"].scenes[0].target.parent == root / "test" / "no_metal"


def test_no_data_at_all_is_an_error_that_names_the_keys() -> None:
    with pytest.raises(ConfigurationError, match=r"data\.path: is not set; .* or spec\.dataset"):
        make_recipe(None).build_data(make_recipe(None).stages()[0])


def test_bad_images_are_counted_and_left_out_of_the_means(tmp_path: Path) -> None:
    root = write_syndeeplesion(tmp_path)
    whole = make_recipe(root)
    bad = root / "test_640geo" / "000001_01_02" / "000"
    before = evaluated(whole)
    for file in bad.glob("?.h5"):
        file.write_bytes(b"")
    recipe = make_recipe(root, {"data": {"on_bad_file": "skip"}})
    scores = recipe.compute_metrics("test", evaluated(recipe))
    assert scores["bad_images"] == 3
    good = [index for index in range(18) if not 6 <= index < 9]
    expected = before["li_psnr"][good].double().mean().item()
    assert scores["li_psnr"] == pytest.approx(expected)


def test_pictures_show_input_interpolation_output_target_and_error(deep: Path) -> None:
    recipe = make_recipe(deep, {"training": {"pictures": 2}})
    outputs = evaluated(recipe)
    grid = recipe.pictures("test", outputs, {})["images"].render()
    assert grid.dtype == np.uint8
    shown = [one for one in outputs["picture"] if one is not None]
    assert [one.shape for one in shown] == [(5, 40, 40)] * 2
    none = make_recipe(deep, {"training": {"pictures": 0}})
    assert none.pictures("test", evaluated(none), {}) == {}


def test_the_end_leaves_each_images_scores_and_a_table_of_methods(deep: Path) -> None:
    recipe = make_recipe(deep)
    outputs, pages = evaluated(recipe), Pages()
    recipe.finish({"test": outputs}, {}, pages)
    lines = pages.files["reports/scores_test.csv"].decode().splitlines()
    assert len(lines) == 19
    assert lines[1].split(",")[0] == "000000_01_02/000/0.h5"
    table = pages.texts["reports/summary_test.txt"].splitlines()
    assert [line.split()[0] for line in table[1:4]] == ["input", "interpolated", "output"]
    psnr = outputs["psnr"].double().mean().item()
    assert table[3].split()[1] == f"{psnr:.4f}"


def test_pretrained_weights_are_a_beginning(deep: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = make_recipe(deep).build_modules()
    both, alone = tmp_path / "both.pt", tmp_path / "alone.pth"
    torch.save({name: one.state_dict() for name, one in first.items()}, both)
    torch.save(first["generator"].state_dict(), alone)
    for file, discriminators_agree in ((both, True), (alone, False)):
        torch.manual_seed(2)
        again = make_recipe(deep, {"checkpoint": str(file)}).build_modules()
        same = {
            name: all(
                torch.equal(one, other)
                for one, other in zip(
                    first[name].parameters(), again[name].parameters(), strict=True
                )
            )
            for name in first
        }
        assert same == {"generator": True, "discriminator": discriminators_agree}


def test_weights_that_do_not_fit_are_refused(deep: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"conv": torch.zeros(1)}, file)
    with pytest.raises(ConfigurationError, match=r"weights\.pt' does not fit NGswin"):
        make_recipe(deep, {"checkpoint": str(file)}).build_modules()
    file.write_bytes(b"no weights")
    with pytest.raises(ConfigurationError, match=r"weights\.pt' holds no weights"):
        make_recipe(deep, {"checkpoint": str(file)}).build_modules()
    with pytest.raises(ConfigurationError, match=r"model\.pretrained: no file '.*absent\.pt'"):
        make_recipe(deep, {"checkpoint": str(tmp_path / "absent.pt")}).build_modules()


def test_what_the_watch_has_seen_is_kept(deep: Path) -> None:
    recipe = make_recipe(deep)
    modules = recipe.build_modules()
    list(recipe.losses(modules, first_batch(recipe)))
    state = recipe.state_dict()
    again = make_recipe(deep)
    again.build_modules()
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert set(state["watch"]["sums"]) == {"discriminator", "physics"}


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_losses(deep: Path, kind: torch.dtype) -> None:
    found = []
    for is_enabled in (False, True):
        torch.manual_seed(0)
        recipe = make_recipe(deep)
        modules, batch = recipe.build_modules(), first_batch(recipe)
        with torch.autocast("cpu", dtype=kind, enabled=is_enabled):
            losses = list(recipe.losses(modules, batch))
        losses[1].value.backward()
        gradient = modules["generator"].to_target.to_origin.weight.grad  # type: ignore[union-attr]
        assert gradient.isfinite().all()  # type: ignore[union-attr, operator]
        found.append([loss.value.item() for loss in losses])
    assert found[1] == pytest.approx(found[0], rel=0.03)
