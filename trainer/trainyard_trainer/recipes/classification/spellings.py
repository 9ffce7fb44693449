"""How the guide writes things, as keys or as flags of its command, read into this recipe's keys."""

from typing import Any

from trainyard_trainer.aliases import Alias, rename, short, without_effect
from trainyard_trainer.privacy_config import TRAINER_ALIASES

_DEVICE = "training.device"


def _device(value: Any) -> dict[str, Any] | None:
    """Which of several GPUs is for CUDA_VISIBLE_DEVICES or the cluster to say."""
    if value in ("auto", "cpu", "cuda"):
        return None
    kind, _, number = str(value).partition(":")
    if kind == "cuda" and number.isdigit():
        return {_DEVICE: "cuda"} if number == "0" else _refuse(number)
    raise ValueError(f"must be auto, cpu, cuda or cuda:0; got '{value}'")


def _refuse(number: str) -> dict[str, Any]:
    raise ValueError(
        f"is cuda:{number}; write cuda, and choose the GPU with CUDA_VISIBLE_DEVICES={number}"
    )


ALIASES = (
    rename("lr", "training.learning_rate"),
    rename("num_epochs", "training.epochs"),
    rename("batch_size", "training.batch_size"),
    rename("num_workers", "training.num_workers"),
    rename("device", _DEVICE),
    rename("fold", "data.fold"),
    without_effect(
        "resume",
        "a job goes on from its newest checkpoint; spec.checkpoint.resumeFrom is for another job's",
    ),
    rename("training.num_epochs", "training.epochs"),
    without_effect(
        "training.gradient_accumulation_steps",
        "batch_size is that of a whole step, training.micro_batch_size what is held at a time",
    ),
    rename("training.lr", "training.learning_rate"),
    short("training.optimizer", "training.optimizer.name"),
    rename("data.data_dir", "data.path"),
    rename("data.num_workers", "training.num_workers"),
    rename("data.batch_size", "training.batch_size"),
    Alias(_DEVICE, _device, "cuda:0: training.device: 'cuda'"),
    *TRAINER_ALIASES,
)
