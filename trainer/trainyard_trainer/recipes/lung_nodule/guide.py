"""The training guide's own keys and short forms, read as ours. See aliases.py. No torch here."""

from collections.abc import Mapping
from typing import Any

from trainyard_trainer.aliases import Alias, Values, choice, rename, short, without_effect

_METRICS = {
    "froc": "froc_score",
    "froc_score": "froc_score",
    "dice": "detection_dice",
    "detection_dice": "detection_dice",
    "center_accuracy": "center_accuracy",
    "size_accuracy": "size_accuracy",
    "loss": "loss",
}
_PRECISIONS = {"float16": "fp16", "bfloat16": "bf16"}
_CLIPPING = {"enabled", "max_norm", "norm_type"}
_DEVICE = {"mixed_precision", "amp_dtype"}


def _plain_metric(value: Any) -> str:
    name = str(value).removeprefix("val_")
    if name not in _METRICS:
        known = ", ".join(f"'{one}'" for one in _METRICS)
        raise ValueError(f"must be one of {known}, with val_ before it or not; got '{value}'")
    return _METRICS[name]


def _save_best(value: Any) -> Values:
    return {"validation.save_best_metric": _plain_metric(value)}


def _watched(key: str) -> Alias:
    """`monitor: val_froc` of a section; where it has no mode, larger is better but for the loss."""

    def read(section: Any) -> Values | None:
        if not isinstance(section, Mapping) or "monitor" not in section:
            return None
        rest = {name: value for name, value in section.items() if name != "monitor"}
        metric = _plain_metric(section["monitor"])
        mode = {"mode": "min" if metric == "loss" else "max"}
        return {key: mode | rest | {"metric": f"val_{metric}"}}

    return Alias(key, read, f"monitor: {key}.metric, with val_ before its name")


def _early_stopping(section: Any) -> Values | None:
    if not isinstance(section, Mapping) or "enabled" not in section:
        return None
    rest = {name: value for name, value in section.items() if name != "enabled"}
    return {"training.early_stopping": rest if section["enabled"] else None}


def _clipping(value: Any) -> Values:
    section = value if isinstance(value, Mapping) else {"enabled": value}
    unknown = sorted(set(section) - _CLIPPING)
    if unknown or not isinstance(section.get("enabled", True), bool):
        raise ValueError("must be true, false, or enabled, max_norm and norm_type")
    if not section.get("enabled", True):
        return {"training.clip_grad_norm": None}
    return {
        "training.clip_grad_norm": section.get("max_norm", 1.0),
        "training.clip_norm_type": section.get("norm_type", 2),
    }


def _precision(section: Any) -> Values | None:
    """mixed_precision and amp_dtype make one of ours, wherever the other is written."""
    if not isinstance(section, Mapping) or not _DEVICE & set(section):
        return None
    rest = {name: value for name, value in section.items() if name not in _DEVICE}
    dtype = section.get("amp_dtype", "float16")
    if dtype not in _PRECISIONS:
        raise ValueError(f"amp_dtype must be one of float16, bfloat16; got '{dtype}'")
    is_mixed = section.get("mixed_precision", True)
    found: dict[str, Any] = {"training.precision": _PRECISIONS[dtype] if is_mixed else "fp32"}
    return found | ({"device": rest} if rest else {})


ALIASES = (
    rename("data.num_workers", "training.num_workers"),
    rename("data.prefetch_factor", "training.prefetch_batches"),
    without_effect("data.pin_memory", "memory is pinned wherever there is a GPU"),
    without_effect("data.persistent_workers", "workers stay from epoch to epoch"),
    rename("model.class", "model.class_path"),
    rename("training.lr_scheduler", "training.schedule"),
    short("training.schedule", "training.schedule.name"),
    _watched("training.schedule"),
    rename("training.schedule.type", "training.schedule.name"),
    rename("training.schedule.T_max", "training.schedule.cosine_epochs"),
    rename("training.schedule.step_size", "training.schedule.period_epochs"),
    rename("training.schedule.factor", "training.schedule.gamma"),
    short("training.optimizer", "training.optimizer.name"),
    rename("training.optimizer.type", "training.optimizer.name"),
    rename("training.optimizer.learning_rate", "training.learning_rate"),
    rename("training.optimizer.lr", "training.learning_rate"),
    short("training.loss", "training.loss.type"),
    Alias(
        "training.gradient_clipping",
        _clipping,
        "training.clip_grad_norm (true: 1.0, false: null) and training.clip_norm_type",
    ),
    _watched("training.early_stopping"),
    Alias(
        "training.early_stopping",
        _early_stopping,
        "enabled: the section as it is, or null where it is false",
    ),
    rename("validation.interval", "training.evaluate_every_epochs"),
    Alias(
        "validation.save_best_metric",
        lambda value: None if value in _METRICS.values() else _save_best(value),
        "validation.save_best_metric, without val_ before its name",
    ),
    without_effect("checkpointing.save_dir", "checkpoints go to spec.storage"),
    without_effect(
        "checkpointing.save_best", "the best checkpoint is always kept; `trainyard fetch JOB best`"
    ),
    without_effect("logging.log_dir", "curves and logs go to spec.storage"),
    rename("logging.log_interval", "training.log_every_steps"),
    Alias(
        "device",
        _precision,
        "mixed_precision and amp_dtype: training.precision (float16: fp16, bfloat16: bf16)",
    ),
    rename("device.type", "training.device"),
    without_effect(
        "device.gpu_ids", "spec.processesPerNode says how many GPUs a node uses, a rank on each"
    ),
    choice("device.parallel_mode", {"ddp": {}, "dp": {}}),
    rename("device.cudnn_benchmark", "training.cudnn_benchmark"),
    Alias("device", lambda value: None if value else {}, "nothing is left of it"),
)
