"""The hot loop: the steps of an epoch, and the little that happens between two of them.

Losses stay on the device until they are read, every `log_every_steps` steps or 5 s; ranks agree
without waiting; nothing else asks the device for anything.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from trainyard_trainer.agreement import Agreed, Agreement
from trainyard_trainer.data_wait import DataWait
from trainyard_trainer.diagnosis import Diverged, Finding, Suspect, examine, name_samples
from trainyard_trainer.distributed import World
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.gpu_memory import explain_exhaustion, used_mebibytes
from trainyard_trainer.metrics import merge_means, prefixed
from trainyard_trainer.recipe import Recipe
from trainyard_trainer.run_state import RunState
from trainyard_trainer.services import Services
from trainyard_trainer.stage_run import StageRun
from trainyard_trainer.stragglers import Stragglers

READ_SECONDS = 5.0
"""Slow steps: training metrics are read at least this often."""


class HotLoop:
    """One rank's."""

    def __init__(
        self, recipe: Recipe[Any], world: World, state: RunState, services: Services
    ) -> None:
        self._recipe, self._world, self._state = recipe, world, state
        self._position = state.position
        self._log_every = recipe.config.training.log_every_steps
        self._tracker, self._progress = services.tracker, services.progress
        self._watchdog, self._profiler = services.watchdog, services.profiler
        self._stragglers = Stragglers(world.rank)
        self.agreement = Agreement(world, self._stragglers)
        self._wait = DataWait()
        self._next_read = 0.0
        self._began = (0, 0)
        """Step and cursor at which this epoch, or what is left of it, began."""

    def epoch(
        self,
        run: StageRun,
        wants: Callable[[], tuple[bool, bool]],
        must_save: Callable[[int], bool],
    ) -> Iterator[Agreed]:
        """Train from the cursor to the end of the epoch; yields where to stop or to save.

        wants: whether this rank would stop, and whether it would save, on which the ranks then
        agree. must_save: whether all save after this step. Raises Diverged on all ranks together.
        """
        position, state, stepper = self._position, self._state, run.stepper
        watchdog, profiler = self._watchdog, self._profiler
        stragglers, agreement, meter = self._stragglers, self.agreement, stepper.meter
        self._began = (position.step, state.cursor)
        ended = time.monotonic()
        for batch in run.loader.epoch(position.run_epoch, state.cursor):
            began = time.monotonic()
            if position.step >= profiler.due:
                profiler.turn(position.step)
            try:
                stepper.step(batch, position.step + 1, position.step - run.first_step)
            except Exception as error:
                self._explain(error, run)
                raise
            if run.ema is not None:
                run.ema.update()
            position.step += 1
            state.cursor = batch.cursor
            state.samples_seen += batch.samples
            stragglers.add(began - ended + stepper.forward_seconds)
            now = watchdog.last = time.monotonic()
            self._wait.add(began - ended, now - ended)
            self._look(run, now)
            agreed = agreement.poll(position.step, *wants(), meter.failure is not None)
            if agreed.failed:
                raise self._diverged(run)
            if agreed.stop or agreed.save or must_save(position.step):
                yield agreed
            ended = time.monotonic()

    def _look(self, run: StageRun, now: float) -> None:
        if self._position.step % self._log_every == 0 or now >= self._next_read:
            self._read(run, now)
        if now >= self._progress.next_write:
            self._progress.write(self._position)

    def _read(self, run: StageRun, now: float) -> None:
        position, state = self._position, self._state
        means = prefixed("train", run.stepper.meter.read())
        self._progress.pace.update(now, state.samples_seen, position.step)
        slow = self._stragglers.metrics()
        self._progress.note(means | slow)
        if position.step % self._log_every == 0:
            run.stepper.meter.next_window()
            pace = {
                "samples_per_second": self._progress.pace.samples_per_second,
                "data_wait_share": self._wait.take(),
                "memory_mebibytes": used_mebibytes(self._world.device),
            }
            self._tracker.add(
                position.step,
                position.run_epoch,
                run.stage.name,
                {f"{name}_step": value for name, value in means.items()}
                | run.stepper.rates()
                | pace
                | slow,
            )
        self._next_read = now + READ_SECONDS

    def means(self, run: StageRun) -> dict[str, float]:
        """Of the epoch, over all ranks' samples. Raises Diverged."""
        self.require_finite(run)
        return merge_means(self._world.gather(run.stepper.meter.sums))

    def require_finite(self, run: StageRun) -> None:
        """Read what is unread, on all ranks together, such as before a save. Raises Diverged."""
        meter = run.stepper.meter
        meter.read()
        if self._world.any(meter.failure is not None):
            raise self._diverged(run)

    def _diverged(self, run: StageRun) -> Diverged:
        """All ranks look into their part of the step where it began, and say the same."""
        run.stepper.meter.read()
        with self._watchdog.paused():
            own = run.stepper.meter.failure
            known = [one for one in self._world.gather(own) if one is not None]
            first = min(known, key=lambda one: one.step)
            finding = self._examine(run, first.step)
            findings = self._world.gather((own, finding))
        ranked = sorted(
            (failure is None or failure.step != first.step, not found.is_certain, rank)
            for rank, (failure, found) in enumerate(findings)
        )
        rank = ranked[0][2]
        what = f"'{first.name}' is {first.value}"
        return Diverged(first.step, run.stage.name, rank, what, findings[rank][1].where)

    def _examine(self, run: StageRun, step: int) -> Finding:
        suspects = self._suspects(run, step)
        now, self._position.step = self._position.step, step - 1  # As the recipe saw it then.
        finding = examine(self._recipe, run.modules, suspects, run.stepper.autocast)
        self._position.step = now
        skipped = step - 1 - self._began[0]
        if finding.is_older and skipped > 0:
            epoch, cursor = self._position.run_epoch, self._began[1]
            named = name_samples(run.loader.samples(epoch, cursor, skipped - 1))
            finding = finding._replace(where=f"{finding.where}; step {step - 1} read {named}")
        return finding

    def _suspects(self, run: StageRun, step: int) -> list[Suspect]:
        """This rank's micro-batches of a step of this epoch, loaded once more."""
        skipped = step - 1 - self._began[0]
        repeated = run.loader.repeat(self._position.run_epoch, self._began[1], skipped)
        return [Suspect(batch, samples) for batch, samples in repeated]

    def _explain(self, error: Exception, run: StageRun) -> None:
        """Say which step and samples it was. Raises GpuMemoryExhausted where memory was short."""
        step = self._position.step + 1
        if isinstance(error, torch.OutOfMemoryError):
            suspects = self._suspects(run, step)
            raise explain_exhaustion(error, step, self._recipe, run.modules, suspects) from error
        if not isinstance(error, TrainyardError):
            skipped = step - 1 - self._began[0]
            named = name_samples(
                run.loader.own_samples(self._position.run_epoch, self._began[1], skipped)
            )
            error.add_note(
                f"in step {step} of stage '{run.stage.name}' on rank {self._world.rank}, {named}"
            )
