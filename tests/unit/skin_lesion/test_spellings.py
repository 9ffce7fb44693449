"""The guide's commands and files as they stand in it."""

from typing import Any

import pytest
import yaml

from trainyard_trainer.config import build_config, read_layers
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.skin_lesion.config import Config

BASELINE = """
name: baseline_cnn
num_classes: 2
dropout_rate: 0.5
learning_rate: 0.001
weight_decay: 0.01

architecture:
  conv_blocks: 4
  channels: [32, 64, 128, 256]
  classifier_hidden: 128
"""
COMMANDS = {
    "development": (
        "model=baseline_cnn data.subsample_percentage=0.01 training.max_epochs=2 data.batch_size=8",
        {"training.epochs": 2, "training.batch_size": 8, "data.subsample_percentage": 0.01},
    ),
    "production": (
        "model=efficientnet model.variant=b3 training.max_epochs=50 training.learning_rate=0.0001 "
        "data.batch_size=16 data.image_size=300 wandb.enabled=true",
        {"model.name": "efficientnet", "model.variant": "b3", "wandb.enabled": True},
    ),
    "a variant brings its image size": (
        "model=efficientnet model.variant=b4",
        {"data.image_size": 380},
    ),
    "optimization": (
        "training.learning_rate=0.001 training.lr_scheduler=cosine training.weight_decay=0.01 "
        "training.optimizer=adamw",
        {"training.schedule.name": "cosine", "training.optimizer.weight_decay": 0.01},
    ),
    "plateau": (
        "training.lr_scheduler=reduce_on_plateau training.lr_patience=5",
        {"training.schedule.name": "plateau", "training.schedule.patience": 5},
    ),
    "early stopping": (
        "training.early_stopping_patience=10 training.monitor_metric=val_loss "
        "training.save_top_k=3",
        {"training.early_stopping.patience": 10, "training.monitor_metric": "val_loss"},
    ),
    "fine-tuning": (
        "model=efficientnet model.pretrained=true training.freeze_backbone_epochs=5 "
        "training.unfreeze_lr_factor=0.1",
        {"training.freeze_backbone_epochs": 5, "model.pretrained": True},
    ),
    "unfreezing": (
        "training.progressive_unfreezing=true training.unfreeze_schedule=[5,10,15]",
        {"training.unfreeze_schedule": (5, 10, 15)},
    ),
    "precision": (
        "training.precision=16 training.amp_backend=native",
        {"training.precision": "fp16"},
    ),
    "gpus": (
        "training.accelerator=gpu training.devices=2 training.strategy=ddp",
        {"training.device": "cuda"},
    ),
    "accumulation": (
        "data.batch_size=16 training.accumulate_grad_batches=4 training.gradient_clip_val=1.0",
        {"training.accumulate_grad_batches": 4, "training.clip_grad_norm": 1.0},
    ),
    "monitoring": (
        "training.progress_bar=rich training.log_every_n_steps=10 training.profiler=simple",
        {"training.log_every_steps": 10, "training.profile.steps": 5},
    ),
    "wandb": (
        "wandb.enabled=true wandb.project=skin-lesion-classification wandb.entity=me "
        "wandb.name=full wandb.tags=[production,efficientnet] wandb.log_model=true "
        "wandb.log_code=true wandb.watch_model=gradients",
        {"wandb.tags": ("production", "efficientnet"), "wandb.watch_model": "gradients"},
    ),
    "debug": (
        "model=baseline_cnn data.subsample_percentage=0.001 training.max_epochs=1 "
        "data.batch_size=2 training.limit_train_batches=10 training.limit_val_batches=5",
        {"training.limit_train_batches": 10, "training.limit_val_batches": 5},
    ),
    "speed": (
        "data.num_workers=8 training.compile=true data.pin_memory=true "
        "data.persistent_workers=true training.enable_checkpointing=true",
        {"training.num_workers": 8, "training.gradient_checkpointing": True},
    ),
    "augmentation": (
        "data.augment=true data.horizontal_flip=0.5 data.vertical_flip=0.2 "
        "data.rotation_degrees=15 data.color_jitter=0.3 data.stratified_sampling=true",
        {"data.augment": True, "data.color_jitter": 0.3},
    ),
}


def value_at(config: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize("name", COMMANDS)
def test_guides_command_runs_as_it_stands(name: str) -> None:
    words, expected = COMMANDS[name]
    config = build_config(Config, [], words.split())
    assert {key: value_at(config, key) for key in expected} == expected


def test_guides_file_of_the_baseline_is_read() -> None:
    config = build_config(Config, [{"model": yaml.safe_load(BASELINE)}])
    assert config.training.optimizer.weight_decay == 0.01
    assert config.model.architecture.channels == (32, 64, 128, 256)


def test_what_has_no_effect_says_what_does_it_instead() -> None:
    (layer,) = read_layers(Config, [], ["training.devices=2"])
    assert layer.notices == [
        "spec.overrides.training.devices: no effect: spec.nodes and spec.processesPerNode say how "
        "many ranks there are."
    ]


def test_our_own_spelling_of_precision_is_no_alias() -> None:
    (layer,) = read_layers(Config, [], ["training.precision=bf16"])
    assert layer.notices == []


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("quick", {"training.epochs": 2, "data.subsample_percentage": 0.01}),
        ("debug", {"training.limit_train_batches": 10, "training.batch_size": 2}),
        ("production", {"training.epochs": 100, "data.image_size": 300, "model.variant": "b3"}),
        ("high_performance", {"training.compile": True, "data.image_size": 260}),
    ],
)
def test_presets_are_below_whatever_is_written(preset: str, expected: dict[str, Any]) -> None:
    config = build_config(Config, [], [f"preset={preset}"])
    assert {key: value_at(config, key) for key in expected} == expected
    changed = build_config(Config, [{"training": {"max_epochs": 7}}], [f"preset={preset}"])
    assert changed.training.epochs == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["training.lr_scheduler=cosin"],
            "spec.overrides.training.lr_scheduler: must be one of 'cosine', 'reduce_on_plateau', "
            "null; got 'cosin'.",
        ),
        (
            ["model=vit"],
            "spec.overrides.model.name: must be one of 'baseline_cnn', 'resnet', 'efficientnet'; "
            "got 'vit'.",
        ),
        (
            ["training.progressive_unfreezing=true", "training.freeze_backbone_epochs=5"],
            "spec.overrides.training: freeze_backbone_epochs and progressive_unfreezing exclude "
            "each other; write the epochs into unfreeze_schedule",
        ),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_config(Config, [], words)
    assert str(caught.value).startswith(message)
