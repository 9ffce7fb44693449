"""The recipe with a step before which its last rank is killed."""

import os
import signal
from collections.abc import Iterator

from trainyard_trainer.recipe import Batch, Loss, Modules
from trainyard_trainer.recipes.skin_lesion.config import Config as Plain
from trainyard_trainer.recipes.skin_lesion.recipe import SkinLesion
from trainyard_trainer.registry import recipe


class Config(Plain):
    """With its fate."""

    kill_at: int | None = None
    """The step."""


@recipe("skin-mortal")
class Mortal(SkinLesion):
    config_class = Config

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        is_last = self.site.rank == self.site.world_size - 1
        if is_last and self.position.step + 1 == self.config.kill_at:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().losses(modules, batch)
