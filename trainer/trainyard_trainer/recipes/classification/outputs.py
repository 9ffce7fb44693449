"""The guide's run directory, `runs/<dataset>_<overrides or base>_fold_<n>/`."""

from collections.abc import Sequence

import yaml

from trainyard_trainer.outputs import Kept, Result, Source

_SHORT = {"batch_size": "batch", "learning_rate": "lr", "num_epochs": "epochs"}
_SPLITS = ("train", "val", "test")


def outputs(result: Result, kept: Sequence[Kept]) -> dict[str, Source]:
    """By path."""
    run = f"runs/{run_name(result)}"
    found = {
        f"{run}/config.yaml": Source("text", yaml.safe_dump(result["config"], sort_keys=False)),
        f"{run}/summary.txt": Source("stored", "summary.txt"),
        f"{run}/logs/train.log": Source("log"),
        f"{run}/tensorboard": Source("folder", "tensorboard"),
    }
    for split in _SPLITS:
        name = f"classification_report_{split}.txt"
        found[f"{run}/logs/{name}"] = Source("stored", f"reports/{name}")
    files = {"best": "best.pt", "latest": "last.pt"}
    for one in kept:
        for name in one.names:
            found[f"{run}/weights/{files[name]}"] = Source("weights", str(one.step))
    return found


def run_name(result: Result) -> str:
    """Such as `hymenoptera_batch_32_fold_0`."""
    data = result["config"]["data"]
    pairs = (text.split("=", 1) for text in result["overrides"])
    told = {key.rpartition(".")[2]: value for key, value in pairs}
    words = [
        f"{_SHORT.get(name, name)}_{value}"
        for name, value in told.items()
        if name not in ("fold", "dataset_name") and "/" not in value
    ]
    return "_".join([data["dataset_name"], *(words or ["base"]), "fold", str(data["fold"])])
