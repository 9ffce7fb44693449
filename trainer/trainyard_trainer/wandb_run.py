"""A run of Weights & Biases without network: its offline files go to the run's storage."""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

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
        self._folder = site.scratch
        if not told.enabled:
            return
        if importlib.util.find_spec(PACKAGE) is None:
            raise ConfigurationError(
                f"{key}.enabled: the package 'wandb' is not installed; install it, or write false."
            )
        if site.rank == 0:
            self._run = importlib.import_module(PACKAGE).init(
                project=told.project,
                entity=told.entity,
                tags=list(told.tags),
                config=config.model_dump(mode="json"),
                dir=str(site.scratch),
                mode="offline",
            )

    def log(self, position: Position, values: Mapping[str, float]) -> None:
        """One evaluation."""
        if self._run is not None:
            self._run.log({**values, "epoch": position.run_epoch}, step=position.step)

    def finish(self, metrics: Mapping[str, float], sink: Sink) -> None:
        """Final metrics, and the files for `wandb sync`."""
        if self._run is None:
            return
        self._run.summary.update(dict(metrics))
        self._run.finish()
        root = self._folder / "wandb"
        for file in sorted(root.rglob("*")):
            if file.is_file() and not file.is_symlink():
                sink.file(f"wandb/{file.relative_to(root)}", file.read_bytes())
