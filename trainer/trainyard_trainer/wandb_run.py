"""A run of Weights & Biases without network: its offline files go to the run's storage."""

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from trainyard_trainer.config import RecipeConfig, WandbConfig
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipe import Position, Sink, Site

PACKAGE = "wandb"


class WandbRun:
    """Rank 0's; that of the others does nothing."""

    def __init__(self, told: WandbConfig, config: RecipeConfig, site: Site, key: str) -> None:
        """key: where `told` stands in the configuration, for messages.

        Raises ConfigurationError where the package is absent.
        """
        self._run: Any = None
        self._told, self._folder = told, site.scratch
        if not told.enabled:
            return
        if importlib.util.find_spec(PACKAGE) is None:
            raise ConfigurationError(
                f"{key}.enabled: the package 'wandb' is not installed; pip install wandb, or write "
                f"{key}.enabled: false."
            )
        if site.rank == 0:
            self._run = self._begin(config)

    def _begin(self, config: RecipeConfig) -> Any:
        told = self._told
        run = importlib.import_module(PACKAGE).init(
            project=told.project,
            entity=told.entity,
            name=told.name,
            tags=list(told.tags),
            config=config.model_dump(mode="json"),
            dir=str(self._folder),
            mode="offline",
        )
        if told.log_code:
            run.log_code(str(Path(inspect.getfile(type(config))).parent))
        return run

    def watch(self, network: nn.Module) -> None:
        """Histograms, where the configuration asks for them."""
        if self._run is not None and self._told.watch_model:
            self._run.watch(network, log=self._told.watch_model)

    def log(self, position: Position, values: Mapping[str, float]) -> None:
        """One evaluation."""
        if self._run is not None:
            self._run.log({**values, "epoch": position.run_epoch}, step=position.step)

    def finish(self, metrics: Mapping[str, float], sink: Sink) -> None:
        """Final metrics, and the files for `wandb sync`."""
        if self._run is None:
            return
        self._run.summary.update(dict(metrics))
        if self._told.log_model:
            self._run.summary["best_checkpoint"] = "checkpoints/, the best by manifest.json"
        self._run.finish()
        root = self._folder / "wandb"
        for file in sorted(root.rglob("*")):
            if file.is_file() and not file.is_symlink():
                sink.file(f"wandb/{file.relative_to(root)}", file.read_bytes())
