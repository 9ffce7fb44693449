from pathlib import Path
from typing import Any

import pytest
import yaml

from trainyard_operator.api import TrainingJob
from trainyard_trainer.config import build_config, read_layers
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.mar_gan.config import Config
from trainyard_trainer.recipes.mar_gan.variants import ABLATION, MEANINGS, STEPS, VARIANTS

CONFIGS = Path(__file__).parents[3] / "configs"
GUIDE: dict[str, Any] = {
    "model": {
        "generator": {
            "type": "NGswin",
            "embed_dim": 64,
            "depths": [6, 4, 4],
            "num_heads": [6, 4, 4],
            "window_size": 8,
            "ngrams": [2, 2, 2, 2],
        },
        "discriminator": {
            "type": "MultiScalePatchGAN",
            "num_scales": 3,
            "base_channels": 64,
            "use_spectral_norm": True,
        },
    },
    "training": {
        "num_epochs": 100,
        "batch_size": 4,
        "patch_size": 128,
        "optimizer": {
            "generator": {"lr": 1.0e-4, "betas": [0.5, 0.999]},
            "discriminator": {"lr": 2.0e-4, "betas": [0.5, 0.999]},
        },
        "loss_weights": {
            "adversarial": 0.1,
            "feature_matching": 10.0,
            "reconstruction": 1.0,
            "edge": 0.2,
            "physics": 0.02,
            "metal_consistency": 0.5,
        },
        "metal_aware": {
            "threshold": 0.6,
            "dilation_radius": 5,
            "beta_weight": 1.0,
            "w_max": 3.0,
        },
    },
    "data": {"train_path": "/path/to/SynDeepLesion/", "patch_size": 128, "workers": 4},
    "checkpointing": {"save_every": 5, "keep_last": 3},
}
"""The guide's configs/train_syndeeplesion.yaml."""


def build(*layers: dict[str, Any], overrides: tuple[str, ...] = ()) -> Config:
    return build_config(Config, list(layers), list(overrides))


def changes(config: Config) -> dict[str, Any]:
    """Dotted keys that differ from the defaults."""
    found = {}

    def compare(one: Any, other: Any, path: str) -> None:
        if isinstance(one, dict):
            for key in one:
                compare(one[key], other[key], f"{path}{key}.")
        elif one != other:
            found[path[:-1]] = one

    compare(config.model_dump(), Config().model_dump(), "")
    return found


def test_the_guides_file_runs_as_it_is_and_says_what_the_defaults_say() -> None:
    config = build(GUIDE)
    assert {key: str(value) for key, value in changes(config).items()} == {
        "training.num_workers": "4",
        "training.optimizer.generator.lr": "0.0001",
        "training.optimizer.generator.betas": "(0.5, 0.999)",
        "training.optimizer.discriminator.lr": "0.0002",
        "training.optimizer.discriminator.betas": "(0.5, 0.999)",
        "data.train_path": "/path/to/SynDeepLesion",
        "checkpointing.save_every": "5",
        "checkpointing.keep_last": "3",
    }
    assert config.checkpoint_policy() == {"everyEpochs": 5, "keepLast": 3}
    assert Config().checkpoint_policy() == {}


def test_the_guides_fine_tuning_file_runs_as_it_is() -> None:
    config = build(
        {
            "training": {
                "num_epochs": 25,
                "batch_size": 4,
                "optimizer": {"generator": {"lr": 1.0e-5}, "discriminator": {"lr": 2.0e-5}},
            },
            "data": {"train_path": "/UWSpine_adn/train/", "test_path": "/UWSpine_adn/test/"},
        },
        overrides=("checkpoint=best_model_syndeeplesion.pth",),
    )
    assert config.training.epochs == 25
    assert str(config.data.test_path) == "/UWSpine_adn/test"
    assert str(config.model.pretrained) == "best_model_syndeeplesion.pth"


def test_the_guides_flags_are_read() -> None:
    flags = ("gpu=0", "amp=true", "batch_size=2", "accumulation_steps=4")
    config = build(GUIDE, overrides=flags)
    assert config.training.precision == "fp16"
    assert (config.training.batch_size, config.training.accumulation_steps) == (2, 4)
    assert config.training.micro_batch_size == 2
    notices = [one for layer in read_layers(Config, [], flags) for one in layer.notices]
    assert notices[0] == (
        "spec.overrides.gpu: no effect: a rank takes the GPU that its node gives it."
    )


def test_the_guides_launchers_flags_are_answered_with_what_does_it_here() -> None:
    flags = (
        "total_nodes=2",
        "gpus_per_node=4",
        "node_rank=1",
        "ip_address=10.0.0.1",
        "backend=nccl",
        "gpus='0,1,2,3'",
        "output_dir=results",
        "resume=latest.pth",
    )
    notices = [one for layer in read_layers(Config, [], flags) for one in layer.notices]
    assert build(overrides=flags) == Config()
    assert len(notices) == len(flags)
    told = "no effect: one process a GPU under DDP; write spec.processesPerNode."
    assert f"spec.overrides.gpus: {told}" in notices


def test_patch_sizes_that_disagree_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"training\.patch_size: is data\.patch_size,"):
        build({"training": {"patch_size": 64}, "data": {"patch_size": 128}})


def test_rates_fall_by_half_after_50_and_75_epochs() -> None:
    schedule = Config().training.schedule
    assert (schedule.name, schedule.milestones, schedule.gamma) == ("multi_step", (50, 75), 0.5)


PARTS = ("adversarial", "feature_matching", "reconstruction", "edge", "physics")


@pytest.mark.parametrize(
    ("variant", "parts", "scales"),
    [
        ("baseline", {"mse"}, 1),
        ("v1", {"mse", "adversarial"}, 1),
        ("v2", {"mse", "adversarial"}, 3),
        ("v3", {"mse", "adversarial", "feature_matching"}, 3),
        ("v4", {"reconstruction", "adversarial", "feature_matching"}, 3),
        ("v5", {"reconstruction", "adversarial", "feature_matching", "edge"}, 3),
        ("full", {*PARTS, "metal_consistency"}, 3),
    ],
)
def test_each_variant_adds_to_the_last(variant: str, parts: set[str], scales: int) -> None:
    config = build({"variant": variant})
    weights = config.training.loss_weights
    assert {name for name, weight in weights if weight} == parts
    assert config.model.discriminator.num_scales == scales
    full = Config().training.loss_weights
    assert all(weight in (0, getattr(full, name)) for name, weight in weights if name != "mse")


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("A1", {"training.loss_weights.physics": 0}),
        ("A2", {"training.loss_weights.metal_consistency": 0}),
        ("A3", {"training.metal_aware.beta_weight": 0}),
        ("A4", {"training.loss_weights.adversarial": 0}),
        ("A5", {"training.loss_weights.feature_matching": 0}),
        ("A6", {"training.loss_weights.edge": 0}),
        ("A7", {}),
        ("A8", {"training.adversarial_loss": "bce"}),
        ("B1", {"model.discriminator.num_scales": 1}),
        ("B2", {"model.discriminator.use_spectral_norm": False}),
        ("B3-r0", {"training.metal_aware.dilation_radius": 0}),
        ("B3-r3", {"training.metal_aware.dilation_radius": 3}),
        ("B3-r5", {}),
        ("B3-r7", {"training.metal_aware.dilation_radius": 7}),
    ],
)
def test_each_ablation_changes_one_thing_in_full(name: str, changed: dict[str, Any]) -> None:
    found = changes(build({"variant": name}))
    assert found.pop("variant") == name
    assert found == changed


def test_the_study_is_a0_to_a8_and_b1_to_b3() -> None:
    expected = [f"A{n}" for n in range(9)] + ["B1", "B2"] + [f"B3-r{r}" for r in (0, 3, 5, 7)]
    assert list(ABLATION) == list(MEANINGS) == expected
    assert build({"variant": "A0"}).needs_discriminator is False
    assert list(VARIANTS) == [*STEPS, *ABLATION, "dcgan"]


def test_what_is_written_beside_a_variant_wins() -> None:
    config = build({"variant": "v3", "training": {"loss_weights": {"mse": 0.5}}})
    assert config.training.loss_weights.mse == 0.5
    assert config.training.loss_weights.reconstruction == 0


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"variant": "v6"}, "variant 'v6' is none of baseline, v1, "),
        (
            {"data": {"patch_size": 64}},
            "data.patch_size is 64; 3 scales need at least 128",
        ),
        (
            {"variant": "dcgan", "data": {"patch_size": 96}},
            "data.patch_size is 96; DCGAN needs a power of two",
        ),
        (
            {"model": {"discriminator": {"type": "DCGAN"}}},
            "training.loss_weights.feature_matching needs MultiScalePatchGAN; write 0",
        ),
        (
            {"model": {"generator": {"depths": [2, 2]}}},
            "depths has 2 stages, num_heads 3 and ngrams 4; write as many heads as depths",
        ),
        (
            {"variant": "baseline", "training": {"loss_weights": {"mse": 0}}},
            "training.loss_weights are all 0; write at least one above it",
        ),
    ],
)
def test_what_cannot_work_is_refused(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(layer)
    assert message in str(caught.value)


def test_the_job_on_synthetic_slices_is_valid_and_its_configuration_too() -> None:
    job = TrainingJob.model_validate(yaml.safe_load((CONFIGS / "mar-gan.yaml").read_text()))
    assert (job.spec.recipe, job.spec.nodes) == ("mar-gan", 2)
    config = build(job.spec.config or {})
    assert config.variant == "full"
    assert config.needs_discriminator
    assert set(dict(config.training.loss_weights)) >= set(PARTS)
    assert all(dict(config.training.loss_weights)[part] > 0 for part in PARTS)
