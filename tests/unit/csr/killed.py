"""csr, killed before a step of one's choice; loaded in the process that ranks are forked from."""

import os
import signal
from collections.abc import Iterator

from trainyard_trainer.recipe import Batch, Loss, Modules
from trainyard_trainer.recipes.csr.config import Config
from trainyard_trainer.recipes.csr.recipe import CsrRecipe
from trainyard_trainer.registry import recipe


class KilledConfig(Config):
    """Of csr."""

    kill_at: int | None = None
    """The step before which the last rank is killed."""


@recipe("csr-killed")
class Killed(CsrRecipe):
    """The same networks, data and losses."""

    config_class = KilledConfig
    config: KilledConfig

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        is_last = self.site.rank == self.site.world_size - 1
        if is_last and self.position.step + 1 == self.config.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().losses(modules, batch)
