"""A recipe that hangs in several ways, and a node that runs it: `python hangs.py`."""

import os
import signal
import time
from typing import Any, Literal

import torch
from patience import HANG_SECONDS
from torch import Tensor
from unit.engine import tiny

from trainyard_trainer import launcher
from trainyard_trainer.context import Rank
from trainyard_trainer.ranks import LIBRARIES
from trainyard_trainer.recipe import Data, Stage
from trainyard_trainer.registry import recipe
from trainyard_trainer.worker import run_rank

HANGS_AT = 5
"""The step that rank 1 does not come to."""
SLOW_SECONDS = 5
"""That slow data and slow reports take."""


class Config(tiny.Config):
    hang: Literal["data", "python", "stopped", "slow", "never"] = "data"


class Points(tiny.Points):
    """Points of which one is never there."""

    recipe: Any = None

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        if self.recipe.hangs("data"):
            time.sleep(1000)
        return super().__getitem__(index)


@recipe("tiny-hang")
class Hang(tiny.Tiny):
    config_class = Config

    def hangs(self, how: str) -> bool:
        is_here = self.site.rank == 1 and self.position.step >= HANGS_AT
        return is_here and self.config.hang == how  # type: ignore[attr-defined, no-any-return]

    def build_data(self, stage: Stage) -> Data:
        data = super().build_data(stage)
        points = Points(tiny.TRAIN, 1)
        points.recipe = self
        if self.config.hang == "slow" and self.site.rank == 1:  # type: ignore[attr-defined]
            time.sleep(SLOW_SECONDS)
        return Data(train=points, validation=data.validation, test=data.test)

    def meet_fate(self) -> int:
        spins = self.hangs("python")
        while spins:
            pass
        if self.hangs("stopped"):
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.config.pause and torch.is_grad_enabled():  # type: ignore[attr-defined]
            print(f"step {self.position.step + 1} of {time.time():.3f}", flush=True)
        return super().meet_fate()

    def report(self, *arguments: Any) -> None:
        if self.config.hang == "slow":  # type: ignore[attr-defined]
            time.sleep(SLOW_SECONDS)


def live(rank: Rank) -> int:
    signal.alarm(int(HANG_SECONDS))
    return run_rank(rank)


if __name__ == "__main__":
    os._exit(launcher.launch(os.environ, "unit.engine.hangs:live", LIBRARIES))
