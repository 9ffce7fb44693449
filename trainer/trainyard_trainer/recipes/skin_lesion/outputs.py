"""`models/`, `logs/` and `reports/` as the guide has them."""

from collections.abc import Sequence

import yaml

from trainyard_trainer.outputs import Kept, Result, Source


def outputs(result: Result, kept: Sequence[Kept]) -> dict[str, Source]:
    """By path; `{version}` stands for the first number that is free."""
    config = result["config"]
    monitored = config["training"]["monitor_metric"]
    model = f"models/{config['model']['name']}/version_{{version}}"
    began = result["started_at"][:19].replace("T", "_").replace(":", "-")
    found = {
        f"{model}/hparams.yaml": Source("text", yaml.safe_dump(config, sort_keys=False)),
        model: Source("folder", "tensorboard"),
        f"logs/train_{began}.log": Source("log"),
        "reports/training_metrics.csv": Source("stored", "metrics.csv"),
    }
    for one in kept:
        weights = Source("weights", str(one.step))
        if "latest" in one.names:
            found[f"{model}/checkpoints/last.ckpt"] = weights
        if monitored in one.metrics:
            name = f"epoch={one.epoch:03d}-{monitored}={one.metrics[monitored]:.3f}.ckpt"
            found[f"{model}/checkpoints/{name}"] = weights
    return found
