"""Recipe `timed-digits`: classification that notes the time of the first optimizer step."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from trainyard_trainer.recipe import Stage
from trainyard_trainer.recipes.classification.recipe import Classification
from trainyard_trainer.registry import recipe


@recipe("timed-digits")
class TimedDigits(Classification):
    """Rank r leaves time.time() in $FIRST_STEP_DIRECTORY/<r> right after its first step."""

    def build_optimizers(
        self, stage: Stage, modules: Mapping[str, nn.Module]
    ) -> dict[str, Optimizer]:
        """With a hook that is gone after its first call."""
        optimizers = super().build_optimizers(stage, modules)
        place = Path(os.environ["FIRST_STEP_DIRECTORY"]) / str(self.site.rank)

        def note(*_: Any) -> None:
            place.write_text(repr(time.time()))
            handle.remove()

        handle = optimizers["main"].register_step_post_hook(note)
        return optimizers
