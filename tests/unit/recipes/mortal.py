"""Every recipe as `<name>-mortal`: the same, killed before a step of one's choice."""

import os
import signal
from collections.abc import Iterator
from typing import Any

from recipe_cases import CASES
from torch import nn

from trainyard_trainer.group_norm import replace_batch_norm
from trainyard_trainer.recipe import Batch, Loss, Modules
from trainyard_trainer.registry import load_recipe, recipe


def register(name: str, *, group_norm: bool) -> None:
    plain: Any = load_recipe(name)

    class Config(plain.config_class):  # type: ignore[misc]
        kill_at: int | None = None

    @recipe(f"{name}-mortal")
    class Mortal(plain):  # type: ignore[misc]
        config_class = Config

        def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
            is_last = self.site.rank == self.site.world_size - 1
            due = self.config.kill_at  # At a step whose batch is empty nothing asks for losses.
            if is_last and due is not None and self.position.step + 1 >= due:
                os.kill(os.getpid(), signal.SIGKILL)
            yield from super().losses(modules, batch)

        def build_modules(self) -> dict[str, nn.Module]:
            modules: dict[str, nn.Module] = super().build_modules()
            if not group_norm:
                return modules
            return {key: replace_batch_norm(module) for key, module in modules.items()}

    Mortal.__qualname__ = f"Mortal {name}"


for case in CASES:
    register(case.recipe, group_norm=case.group_norm)
