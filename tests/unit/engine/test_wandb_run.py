"""Weights & Biases, with a stand-in for its package, which is not installed."""

import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from trainyard_trainer import wandb_run
from trainyard_trainer.config import RecipeConfig, WandbConfig
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipe import Position, Site
from trainyard_trainer.wandb_run import WandbRun

TOLD = WandbConfig(enabled=True, project="nodules", entity="team", tags=("unet",))


class StandIn(types.ModuleType):
    """Keeps what it is told, and leaves one file as its offline mode does."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
        self.told: list[Any] = []
        self.summary: dict[str, float] = {}

    def init(self, **options: Any) -> "StandIn":
        self.told.append(options)
        file = Path(options["dir"]) / "wandb" / "offline-run" / "run.wandb"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"curves")
        return self

    def log(self, values: Any, step: int) -> None:
        self.told.append((values, step))

    def finish(self) -> None:
        self.told.append("finished")


class Files:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def file(self, name: str, data: bytes) -> None:
        self.files[name] = data


def begin(told: WandbConfig, scratch: Path, rank: int = 0) -> WandbRun:
    site = Site(data_path=None, scratch=scratch, device=torch.device("cpu"), rank=rank)
    return WandbRun(told, RecipeConfig(), site, "logging.wandb")


def test_rank_0_logs_offline_and_keeps_the_files_in_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, sink = StandIn(), Files()
    monkeypatch.setitem(sys.modules, "wandb", package)
    run = begin(TOLD, tmp_path)
    run.log(Position(step=7, run_epoch=2), {"val_loss": 0.5})
    run.finish({"test_loss": 0.25}, sink)  # type: ignore[arg-type]
    options, *rest = package.told
    assert {name: options[name] for name in ("project", "entity", "tags", "mode")} == {
        "project": "nodules",
        "entity": "team",
        "tags": ["unet"],
        "mode": "offline",
    }
    assert rest == [({"val_loss": 0.5, "epoch": 2}, 7), "finished"]
    assert package.summary == {"test_loss": 0.25}
    assert sink.files == {"wandb/offline-run/run.wandb": b"curves"}


def test_other_ranks_and_runs_without_it_log_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, sink = StandIn(), Files()
    monkeypatch.setitem(sys.modules, "wandb", package)
    for run in (begin(TOLD, tmp_path, rank=1), begin(WandbConfig(), tmp_path)):
        run.log(Position(), {})
        run.finish({}, sink)  # type: ignore[arg-type]
    assert (package.told, sink.files) == ([], {})


def test_an_absent_package_is_told_of_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        begin(TOLD, tmp_path)
    assert str(caught.value) == (
        "logging.wandb.enabled: the package 'wandb' is not installed; pip install wandb, or write "
        "logging.wandb.enabled: false."
    )
