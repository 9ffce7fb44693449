"""A run of Weights & Biases without network: its offline files go to the run's storage."""

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipe import Position, Sink, Site
from trainyard_trainer.recipes.skin_lesion.config import Config

PACKAGE = "wandb"


class WandbRun:
    """Of rank 0; the other ranks' does nothing."""

    def __init__(self, config: Config, site: Site) -> None:
        """Raises ConfigurationError where the package is absent."""
        if importlib.util.find_spec(PACKAGE) is None:
            raise ConfigurationError(
                "wandb.enabled: the package 'wandb' is not installed; pip install wandb, or write "
                "wandb.enabled: false."
            )
        self._config, self._folder = config.wandb, site.scratch
        self._run: Any = None
        if site.rank == 0:
            self._run = self._begin(config)

    def _begin(self, config: Config) -> Any:
        wandb, told = importlib.import_module(PACKAGE), self._config
        run = wandb.init(
            project=told.project,
            entity=told.entity,
            name=told.name,
            tags=list(told.tags),
            config=config.model_dump(mode="json"),
            dir=str(self._folder),
            mode="offline",
        )
        if told.log_code:
            run.log_code(str(Path(__file__).parent))
        return run

    def watch(self, network: nn.Module) -> None:
        """Histograms, where the configuration asks for them."""
        if self._run is not None and self._config.watch_model:
            self._run.watch(network, log=self._config.watch_model)

    def log(self, position: Position, values: Mapping[str, float]) -> None:
        """One evaluation."""
        if self._run is not None:
            self._run.log(dict(values) | {"epoch": position.run_epoch}, step=position.step)

    def finish(self, metrics: Mapping[str, float], sink: Sink) -> None:
        """Final metrics, and the files for `wandb sync`."""
        if self._run is None:
            return
        self._run.summary.update(dict(metrics))
        if self._config.log_model:
            self._run.summary["best_checkpoint"] = "checkpoints/, the best by manifest.json"
        self._run.finish()
        root = self._folder / "wandb"
        for file in sorted(root.rglob("*")):
            if file.is_file() and not file.is_symlink():
                sink.file(f"wandb/{file.relative_to(root)}", file.read_bytes())
