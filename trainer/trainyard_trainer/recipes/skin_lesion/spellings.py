"""How the guide writes things, read into this recipe's keys; and what its groups and presets bring.

Batch sizes count all ranks together here, where the guide's count one device.
"""

from typing import Any

from trainyard_trainer.aliases import choice, rename, short, without_effect

_PROFILE = {"training.profile": {"start_step": 2, "steps": 5}}
_RANKS = "spec.nodes and spec.processesPerNode say how many ranks there are"

ALIASES = (
    short("model", "model.name"),
    rename("model.learning_rate", "training.learning_rate"),
    rename("model.weight_decay", "training.optimizer.weight_decay"),
    rename("training.max_epochs", "training.epochs"),
    rename("training.weight_decay", "training.optimizer.weight_decay"),
    short("training.optimizer", "training.optimizer.name"),
    choice(
        "training.lr_scheduler",
        {
            "cosine": {"training.schedule.name": "cosine"},
            "reduce_on_plateau": {"training.schedule.name": "plateau"},
            None: {"training.schedule.name": "constant"},
        },
    ),
    rename("training.lr_patience", "training.schedule.patience"),
    rename("training.early_stopping_patience", "training.early_stopping.patience"),
    rename("training.gradient_clip_val", "training.clip_grad_norm"),
    choice(
        "training.precision",
        {
            **{word: {"training.precision": word} for word in ("fp32", "bf16", "fp16")},
            16: {"training.precision": "fp16"},
            32: {"training.precision": "fp32"},
            "16-mixed": {"training.precision": "fp16"},
            "bf16-mixed": {"training.precision": "bf16"},
        },
    ),
    choice(
        "training.accelerator",
        {
            "auto": {"training.device": "auto"},
            "cpu": {"training.device": "cpu"},
            "gpu": {"training.device": "cuda"},
        },
    ),
    without_effect("training.amp_backend", "PyTorch's own is the only one"),
    without_effect("training.devices", _RANKS),
    without_effect("training.strategy", f"gradients are averaged over all ranks; {_RANKS}"),
    without_effect("training.progress_bar", "a line is logged for every epoch"),
    without_effect("training.save_top_k", "spec.checkpoint.keepLast and keepBest say what is kept"),
    without_effect(
        "training.resume_from_checkpoint",
        "a job goes on from its newest checkpoint; spec.checkpoint.resumeFrom is for another job's",
    ),
    rename("training.log_every_n_steps", "training.log_every_steps"),
    choice(
        "training.profiler",
        {"simple": _PROFILE, "advanced": _PROFILE, "pytorch": _PROFILE, None: {}},
    ),
    rename("training.enable_checkpointing", "training.gradient_checkpointing"),
    rename("data.batch_size", "training.batch_size"),
    rename("data.num_workers", "training.num_workers"),
    without_effect("data.pin_memory", "memory is pinned wherever there is a GPU"),
    without_effect("data.persistent_workers", "workers stay from epoch to epoch"),
    rename("data.data_dir", "data.path"),
)

IMAGE_SIZES = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "b4": 380}

GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "preset": {
        "quick": {
            "model.name": "baseline_cnn",
            "data.subsample_percentage": 0.01,
            "training.epochs": 2,
            "training.batch_size": 8,
        },
        "debug": {
            "model.name": "baseline_cnn",
            "data.subsample_percentage": 0.001,
            "training.epochs": 1,
            "training.batch_size": 2,
            "training.limit_train_batches": 10,
            "training.limit_val_batches": 5,
        },
        "production": {
            "model.name": "efficientnet",
            "model.variant": "b3",
            "model.pretrained": True,
            "training.epochs": 100,
            "training.early_stopping": {"patience": 15},
            "training.learning_rate": 1e-4,
            "training.optimizer": {"weight_decay": 0.01},
            "training.schedule": {"name": "cosine"},
            "data.augment": True,
        },
        "high_performance": {
            "model.name": "efficientnet",
            "model.variant": "b2",
            "training.batch_size": 32,
            "training.num_workers": 8,
            "training.precision": "fp16",
            "training.device": "cuda",
            "training.compile": True,
        },
    },
    "model.variant": {variant: {"data.image_size": size} for variant, size in IMAGE_SIZES.items()},
}
"""By key and value: see aliases.py. A later group wins over an earlier one."""
