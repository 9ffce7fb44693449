"""The guide's configurations run as written, and its short forms are read."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trainyard_operator.api import TrainingJob
from trainyard_trainer.config import build_config, read_layers
from trainyard_trainer.config_text import render_config
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.policy import CheckpointPolicy
from trainyard_trainer.recipe import Metric
from trainyard_trainer.recipes.lung_nodule.config import Config

MINIMAL = """
data:
  train_dir: data/processed/train
  val_dir: data/processed/val
  annotations: data/annotations.csv
model: {type: unet, in_channels: 1, out_channels: 1, base_filters: 32}
training: {epochs: 100, batch_size: 2, learning_rate: 0.001}
"""
COMPLETE = """
data:
  train_dir: data/processed/train
  val_dir: data/processed/val
  test_dir: data/processed/test
  annotations: data/annotations.csv
  patch_size: [128, 128, 128]
  stride: [64, 64, 64]
  num_workers: 8
  prefetch_factor: 2
  pin_memory: true
  persistent_workers: true
model:
  type: unet
  in_channels: 1
  out_channels: 1
  base_filters: 32
  depth: 4
  use_batch_norm: true
  use_dropout: true
  dropout_rate: 0.1
  activation: relu
training:
  epochs: 100
  batch_size: 2
  accumulation_steps: 4
  learning_rate: 0.001
  lr_scheduler: {type: cosine, warmup_epochs: 5, min_lr: 0.00001}
  optimizer: {type: adamw, weight_decay: 0.0001, betas: [0.9, 0.999]}
  loss:
    type: multi_task
    detection_weight: 1.0
    regression_weight: 0.5
    triage_weight: 0.3
    detection_loss: {type: focal, alpha: 0.25, gamma: 2.0}
    regression_loss: {type: smooth_l1, beta: 1.0}
    triage_loss: {type: bce, pos_weight: 3.0}
  hard_negative_mining: {enabled: true, neg_pos_ratio: 3, batch_hard_ratio: 0.5}
augmentation:
  enabled: true
  random_flip: {probability: 0.5, axes: [0, 1, 2]}
  random_rotation: {probability: 0.5, max_angle: 15}
  random_scale: {probability: 0.5, scale_range: [0.9, 1.1]}
  random_noise: {probability: 0.3, noise_std: 0.01}
  elastic_deformation: {probability: 0.2, alpha: 10, sigma: 3}
validation:
  interval: 1
  metrics: [detection_dice, froc_score, center_accuracy, size_accuracy]
  save_best_metric: froc_score
checkpointing: {save_dir: checkpoints, save_interval: 5, keep_last_n: 3, save_best: true}
logging:
  log_dir: logs
  log_interval: 10
  tensorboard: true
  wandb: {enabled: false, project: pivot-nodule-detection, entity: your-team}
device: {type: cuda, gpu_ids: [0, 1], mixed_precision: true, cudnn_benchmark: true}
"""


def build(text: str) -> Config:
    return build_config(Config, [yaml.safe_load(text)])


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        build(text)
    return str(caught.value)


def get(config: Config, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


def test_the_minimal_configuration_runs_as_written() -> None:
    config = build(MINIMAL)
    assert config.data.train_dir == Path("data/processed/train")
    assert (config.training.epochs, config.training.batch_size) == (100, 2)
    assert (config.data.patch_size, config.data.stride) == ((128,) * 3, (64,) * 3)


def test_the_complete_configuration_runs_as_written() -> None:
    config = build(COMPLETE)
    training = config.training
    assert (training.batch_size, training.accumulation_steps) == (2, 4)
    assert (training.num_workers, training.prefetch_batches) == (8, 2)
    assert (training.schedule.name, training.schedule.warmup_epochs) == ("cosine", 5)
    assert (training.device, training.precision) == ("cuda", "fp16")
    assert (training.optimizer.name, training.optimizer.weight_decay) == ("adamw", 1e-4)
    assert config.checkpoint_policy() == {"everyEpochs": 5, "keepLast": 3}
    policy = CheckpointPolicy.parse(config.checkpoint_policy(), Metric("val_froc_score", "max"))
    assert [policy.is_due_after_epoch(epoch) for epoch in (4, 5, 10)] == [False, True, True]


def test_tensorboard_is_switched_off_where_the_guide_says_so() -> None:
    assert build(COMPLETE).writes_tensorboard()
    assert not build("logging: {tensorboard: false}").writes_tensorboard()


def test_config_check_says_what_became_of_each_key() -> None:
    (layer,) = read_layers(Config, [yaml.safe_load(COMPLETE)])
    told = dict(notice.removeprefix("spec.config.").split(": ", 1) for notice in layer.notices)
    assert told["data.num_workers"] == "read as training.num_workers: 8."
    assert told["checkpointing.save_dir"] == "no effect: checkpoints go to spec.storage."
    assert told["device.type"] == "read as training.device: 'cuda'."
    assert told["device.gpu_ids"] == (
        "no effect: spec.processesPerNode says how many GPUs a node uses, a rank on each."
    )


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("training: {optimizer: adamw}", "training.optimizer.name", "adamw"),
        ("training: {optimizer: {type: sgd, lr: 0.01}}", "training.learning_rate", 0.01),
        (
            "training: {optimizer: {type: sgd, learning_rate: 0.01, momentum: .9, nesterov: true}}",
            "training.optimizer.nesterov",
            True,
        ),
        ("training: {optimizer: {type: adamw, eps: 1.0e-8}}", "training.optimizer.eps", 1e-8),
        ("training: {gradient_clipping: true}", "training.clip_grad_norm", 1.0),
        ("training: {gradient_clipping: false}", "training.clip_grad_norm", None),
        (
            "training: {gradient_clipping: {enabled: true, max_norm: 5.0, norm_type: 2}}",
            "training.clip_grad_norm",
            5.0,
        ),
        (
            "training: {gradient_clipping: {enabled: true, max_norm: 5.0, norm_type: 1}}",
            "training.clip_norm_type",
            1.0,
        ),
        ("training: {gradient_clipping: {enabled: false}}", "training.clip_grad_norm", None),
        ("training: {lr_scheduler: step}", "training.schedule.name", "step"),
        (
            "training: {lr_scheduler: {type: cosine, warmup_epochs: 5, T_max: 100}}",
            "training.schedule.cosine_epochs",
            100,
        ),
        (
            "training: {lr_scheduler: {type: step, step_size: 30, gamma: 0.1}}",
            "training.schedule.period_epochs",
            30,
        ),
        (
            "training: {lr_scheduler: {type: plateau, mode: max, factor: 0.5, patience: 5,"
            " min_lr: 0.00001, monitor: val_froc}}",
            "training.schedule.metric",
            "val_froc_score",
        ),
        (
            "training: {lr_scheduler: {type: plateau, factor: 0.5}}",
            "training.schedule.gamma",
            0.5,
        ),
        (
            "training: {early_stopping: {enabled: true, patience: 15, min_delta: 0.001,"
            " monitor: val_froc, mode: max}}",
            "training.early_stopping.metric",
            "val_froc_score",
        ),
        (
            "training: {early_stopping: {enabled: true, monitor: val_froc}}",
            "training.early_stopping.mode",
            "max",
        ),
        ("training: {early_stopping: {enabled: false}}", "training.early_stopping", None),
        ("training: {loss: {type: focal, alpha: 0.3}}", "training.loss.detection.alpha", 0.3),
        (
            "training: {loss: {type: dice, smooth: 1.0, squared_pred: true}}",
            "training.loss.detection.type",
            "dice",
        ),
        ("training: {loss: dice}", "training.loss.has_heads", False),
        (
            "training: {pretrained: {checkpoint: a.pth, freeze_encoder: true}}",
            "training.pretrained.freeze_epochs",
            10,
        ),
        ("validation: {interval: 2}", "training.evaluate_every_epochs", 2),
        ("validation: {save_best_metric: val_froc}", "validation.save_best_metric", "froc_score"),
        ("logging: {log_interval: 7}", "training.log_every_steps", 7),
        ("device: {type: cpu, mixed_precision: false}", "training.precision", "fp32"),
        (
            "device: {mixed_precision: true, amp_dtype: bfloat16}",
            "training.precision",
            "bf16",
        ),
        ("device: {type: mps}", "training.device", "mps"),
        ("device: {cudnn_benchmark: false}", "training.cudnn_benchmark", False),
        ("device: {gpu_ids: [0, 1, 2, 3], parallel_mode: dp}", "training.device", "auto"),
        ("inference: {tta: {enabled: true}}", "inference.tta.num_augmentations", 8),
        (
            "model: {type: custom, class: src.model.custom.CustomDetector}",
            "model.class_path",
            "src.model.custom.CustomDetector",
        ),
        ("model: {base_filters: 64, depth: 5}", "model.base_filters", 64),
    ],
)
def test_the_guides_keys_and_short_forms_are_read(text: str, key: str, expected: Any) -> None:
    if "depth: 5" in text:
        text += "\ndata: {patch_size: [64, 64, 64], stride: [32, 32, 32]}"
    assert get(build(text), key) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "training: {learning_rte: 1}",
            "spec.config.training: unknown key 'learning_rte'; did you mean 'learning_rate'?",
        ),
        (
            "data: {patch_size: [100, 96, 96]}\nmodel: {depth: 4}",
            "spec.config: patch_size [100, 96, 96] is not divisible by 16, which a U-Net of depth "
            "4 halves it by; write multiples of 16; got ",
        ),
        (
            "data: {patch_size: [32, 32, 32]}",
            "spec.config.data: stride [64, 64, 64] is larger than patch_size [32, 32, 32] and "
            "would leave gaps; write at most patch_size; got ",
        ),
        (
            "model: {type: custom}",
            "spec.config.model: type 'custom' needs class: the import path of a class; got ",
        ),
        (
            "model: {in_channels: 2}",
            "spec.config: model.in_channels is 2, but data.windows has 1; write one HU window for "
            "each channel; got ",
        ),
        (
            "training: {early_stopping: {enabled: true, monitor: val_acc}}",
            "spec.config.training.early_stopping: must be one of 'froc', 'froc_score', 'dice', "
            "'detection_dice', 'center_accuracy', 'size_accuracy', 'loss', with val_ before it or "
            "not; got 'val_acc'.",
        ),
        (
            "training: {gradient_clipping: 1.0}",
            "spec.config.training.gradient_clipping: must be true, false, or enabled, max_norm and "
            "norm_type.",
        ),
        (
            "device: {amp_dtype: float64}",
            "spec.config.device: amp_dtype must be one of float16, bfloat16; got 'float64'.",
        ),
    ],
)
def test_mistakes_are_told_in_one_sentence(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_an_override_in_the_guides_spelling_changes_one_key() -> None:
    config = build_config(Config, [yaml.safe_load(COMPLETE)], ["device.type=cpu", "model.depth=3"])
    assert (config.training.device, config.training.precision) == ("cpu", "fp16")
    assert config.model.depth == 3


@given(st.sampled_from(["cosine", "step", "plateau"]), st.booleans())
def test_every_rewritten_configuration_is_one_of_ours(name: str, clips: bool) -> None:
    guide = {"training": {"lr_scheduler": {"type": name}, "gradient_clipping": clips}}
    (layer,) = read_layers(Config, [guide])
    assert build_config(Config, [guide]) == Config.model_validate(
        build_config(Config, [layer.values]).model_dump()
    )


def test_every_key_has_a_comment() -> None:
    lines = render_config(Config).splitlines()
    for above, line in itertools.pairwise(lines):
        if not line.lstrip().startswith("#"):
            assert above.lstrip().startswith("#"), line


def test_the_job_in_configs_is_valid() -> None:
    text = (Path(__file__).parents[3] / "configs" / "lung-nodule.yaml").read_text()
    job = TrainingJob.model_validate(yaml.safe_load(text))
    assert (job.spec.recipe, job.spec.nodes) == ("lung-nodule", 2)
    assert build_config(Config, [job.spec.config or {}]).validation.blob_baseline
