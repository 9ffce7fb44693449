"""The recipes with stages and with two optimizers, for gangs that are killed."""

from collections.abc import Iterator

from unit.engine.test_stages import TinyCritic, TinyPlan

from trainyard_trainer.recipe import Batch, Loss, Modules
from trainyard_trainer.registry import recipe


@recipe("gang-plan")
class Plan(TinyPlan):
    """Stages that freeze and unfreeze."""

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        self.meet_fate()
        yield from super().losses(modules, batch)


@recipe("gang-critic")
class Critic(TinyCritic):
    """A critic that is stepped more often than the generator."""

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        self.meet_fate()
        yield from super().losses(modules, batch)
