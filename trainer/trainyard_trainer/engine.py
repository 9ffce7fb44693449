"""The training loop: stages of epochs of steps, saved, evaluated, reported and resumed.

    Engine(recipe, world, services, policy, should_stop).run()

A run may be interrupted at any step and goes on as if it had not been: with the same number of
ranks bit by bit, with another number with the same samples in the same steps.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from trainyard_trainer.checkpoint import Loaded, Need
from trainyard_trainer.console import label, log, metric_line, success
from trainyard_trainer.distributed import World
from trainyard_trainer.errors import ConfigurationError, Stopped
from trainyard_trainer.evaluation import samples_of
from trainyard_trainer.finale import PREFIXES, CheckpointNotSaved, Outcome, load_best
from trainyard_trainer.histograms import histograms_of
from trainyard_trainer.hot_loop import HotLoop
from trainyard_trainer.metrics import find_metric, prefixed
from trainyard_trainer.policy import CheckpointPolicy
from trainyard_trainer.recipe import Gathered, Metric, Recipe, Stage
from trainyard_trainer.rng import restore_rng
from trainyard_trainer.run_state import RunState
from trainyard_trainer.services import Services
from trainyard_trainer.stage_run import StageBuilder, StageRun, prepare_modules

FINAL_PAUSES = (1.0, 4.0, 10.0, *[15.0] * 40)
"""Before the last save is tried again; `Checkpointer.required_seconds` bounds them all."""


class Engine:
    """One rank's run."""

    def __init__(
        self,
        recipe: Recipe[Any],
        world: World,
        services: Services,
        policy: CheckpointPolicy,
        should_stop: Callable[[], bool],
    ) -> None:
        self._recipe, self._world, self._policy = recipe, world, policy
        self._training = recipe.config.training
        self._checkpointer = services.checkpointer
        self._storage, self._tracker = services.storage, services.tracker
        self._progress, self._watchdog = services.progress, services.watchdog
        self._should_stop = should_stop
        self._modules = prepare_modules(recipe, world.device)
        self._stages = recipe.stages()
        self._builder = StageBuilder(recipe, self._modules, world)
        self._state = RunState(recipe, self._modules)
        self._position, self._progress.clock = self._state.position, self._state.clock
        self._interval = policy.interval(time.monotonic())
        self._profiler = services.profiler
        self._loop = HotLoop(recipe, world, self._state, services)
        self._unprepared: StageRun | None = None
        """For whose checkpoints there is no room in host memory yet."""
        self._owed = False
        """A checkpoint was due at the last step of an epoch."""

    def run(self, initial: Callable[[], Mapping[str, Any]] | None = None) -> Outcome:
        """Train to the end, or as far as one lets it.

        initial: gives weights by module to begin with, where the run has no checkpoint yet. Raises
        Stopped once a checkpoint is saved after `should_stop` said so.
        """
        with self._watchdog.paused():
            loaded = self._checkpointer.load_latest()
        if loaded is not None:
            self._resume(loaded)
        elif initial is not None:
            self._state.load_modules(initial())
        elif self._training.evaluate_only:
            raise ConfigurationError(
                "training.evaluate_only: there are no weights to judge; write "
                "spec.checkpoint.resumeFrom."
            )
        unstored = loaded.state.get("unstored_rows", ()) if loaded else ()
        self._tracker.begin(self._progress.resumed_step, unstored)
        self._progress.epochs = sum(stage.epochs for stage in self._stages)
        self._progress.write(self._position)
        self._progress.next_write = 0.0  # The first step tells the planner that this attempt works.
        run = None
        if self._training.evaluate_only:
            self._position.stage_index = len(self._stages)
        while self._position.stage_index < len(self._stages):
            run = self._run_stage(self._stages[self._position.stage_index], loaded)
            loaded = None
        self._profiler.close(self._position.step)
        return self._finish(run or self._build_stage(self._stages[-1]))

    def _resume(self, loaded: Loaded) -> None:
        self._state.load(loaded.state)
        manifest = loaded.manifest
        self._progress.resumed_step = manifest.step
        log.info(
            "Resuming from step %d (epoch %d, attempt %d)",
            manifest.step,
            manifest.epoch,
            manifest.attempt,
        )
        changes = self._progress.config_changes = self._state.config_changes
        if changes and self._world.is_first:
            log.warning("The configuration is not the checkpoint's: %s", "; ".join(changes))
        if loaded.is_elastic(self._world.world_size):
            log.warning(
                "The checkpoint is from %d ranks, this attempt has %d: the global batch stays",
                manifest.world_size,
                self._world.world_size,
            )

    def _run_stage(self, stage: Stage, loaded: Loaded | None) -> StageRun:
        run = self._begin_stage(stage, loaded)
        position = self._position
        evaluated: dict[str, float] = {}
        while position.epoch < stage.epochs:
            evaluated = self._run_epoch(run)
        position.stage_index, position.epoch = position.stage_index + 1, 0
        is_last = position.stage_index == len(self._stages)
        if is_last:  # Nothing else is left to do, and to give up would cost trained steps.
            self._checkpointer.retry_pauses = FINAL_PAUSES
        self._save(run, evaluated, Need.REQUIRED, blocking=is_last)
        return run

    def _begin_stage(self, stage: Stage, loaded: Loaded | None) -> StageRun:
        state, position = self._state, self._position
        self._watchdog.allow("the building of a stage and its first step")
        starts = state.is_at_stage_start
        if loaded is not None and starts and loaded.rank_state is not None:
            restore_rng(loaded.rank_state["rng"])
        run = self._unprepared = self._build_stage(stage)
        self._progress.steps = self._foresee(run)
        self._builder.settle(run, run.loader.first(position.run_epoch, state.cursor))
        if loaded is not None and not starts:
            state.load_stage(run, loaded.state)
            state.load_own(loaded.rank_state, run, self._world.rank)
        if state.cursor >= len(run.loader.sampler):
            # Saved before the evaluation that belongs to it: save that step again, with metrics.
            self._checkpointer.allow_again()
        sizes = {PREFIXES[split]: size for split, size in self._progress.samples.items()}
        log.info("Dataset sizes: %s", sizes)
        if len(self._stages) > 1:
            log.info("Stage %d of %d: %s", position.stage_index + 1, len(self._stages), stage.name)
        return run

    def _build_stage(self, stage: Stage) -> StageRun:
        state = self._state
        self._position.stage = stage
        state.first_world_size = state.first_world_size or self._world.world_size
        metric, step = self._metric(stage), self._position.step
        run = self._builder.build(stage, metric, state.first_world_size, step)
        self._progress.samples = {split: len(samples_of(run.data, split)) for split in PREFIXES}
        return run

    def _metric(self, stage: Stage) -> Metric:
        """What judges a stage; the last one decides which checkpoint is best."""
        is_last = stage is self._stages[-1]
        return self._policy.keep_best if is_last else stage.best or self._recipe.best

    def _foresee(self, run: StageRun) -> int:
        """Steps of the whole run, were all later stages like this one."""
        left = sum(stage.epochs for stage in self._stages[self._position.stage_index :])
        done = self._position.epoch * run.loader.steps_per_epoch
        done += round(self._state.cursor / run.loader.split.batch_size)
        return self._position.step - done + left * run.loader.steps_per_epoch

    def _run_epoch(self, run: StageRun) -> dict[str, float]:
        """Returns the evaluation's metrics, if there was one."""
        position, state = self._position, self._state
        log.info("Epoch %d/%d", position.epoch, run.stage.epochs - 1)
        state.clock.start()
        self._progress.pace.restart(time.monotonic(), state.samples_seen, position.step)
        self._train_epoch(run)
        self._show_histograms()
        trained = self._loop.means(run)
        log.info(metric_line("train", trained))
        evaluated = self._evaluate_epoch(run) if self._is_evaluated(run) else {}
        state.clock.stop()
        values = prefixed("train", trained) | run.stepper.rates() | evaluated
        self._tracker.add(position.step, position.run_epoch, run.stage.name, values)
        self._progress.note(values)
        if tracker := self._tracker.showing(position.step):
            self._recipe.end_epoch(values, tracker)
        self._end_epoch(run, evaluated)
        return evaluated

    def _end_epoch(self, run: StageRun, evaluated: dict[str, float]) -> None:
        position, state = self._position, self._state
        is_best, ends = self._judge(run, evaluated) if evaluated else (False, False)
        run.stepper.meter.reset()
        position.epoch, position.run_epoch = position.epoch + 1, position.run_epoch + 1
        state.cursor = 0
        # The end of a stage has a checkpoint of its own; a new best is kept whatever the interval.
        is_due = is_best or self._owed or self._is_due_after_epoch()
        self._owed = False
        if ends and position.epoch < run.stage.epochs:
            log.info("Early stopping after epoch %d: no improvement", position.epoch - 1)
            position.epoch = run.stage.epochs
        elif self._is_paused() and position.epoch < run.stage.epochs:
            raise self._pause(run, evaluated)
        elif is_due and position.epoch < run.stage.epochs:
            self._save(run, evaluated, Need.BEST if is_best else Need.USUAL)
        self._progress.write(position)

    def _show_histograms(self) -> None:
        every = self._training.histogram_every_epochs
        if not every or (self._position.run_epoch + 1) % every:
            return
        if tracker := self._tracker.showing(self._position.step):
            for tag, histogram in histograms_of(self._modules):
                tracker.histogram(tag, histogram)

    def _is_due_after_epoch(self) -> bool:
        is_paid_for = self._interval.is_paid_for(time.monotonic())
        return self._policy.is_due_after_epoch(self._position.run_epoch) or self._world.any(
            self._world.is_first and is_paid_for
        )

    def _train_epoch(self, run: StageRun) -> None:
        for agreed in self._loop.epoch(run, self._wants, self._must_save):
            if agreed.stop:
                raise self._stop(run)
            self._save_at_step(run)

    def _wants(self) -> tuple[bool, bool]:
        """After each step: whether this rank would stop, and whether to save, on one clock."""
        is_time = self._world.is_first and self._interval.is_due(time.monotonic())
        return self._should_stop(), is_time

    def _must_save(self, step: int) -> bool:
        if self._unprepared is not None:
            # By now there are optimizer states, whose size no one knew before the first step.
            run, self._unprepared = self._unprepared, None
            shared, replicated = self._state.shared(run), self._state.replicated(run)
            own = self._state.own(run)
            self._checkpointer.prepare(shared, replicated=replicated, rank_state=own)
        return self._policy.is_due_at_step(step)

    def _save_at_step(self, run: StageRun) -> None:
        """After the last step of an epoch, wait for the evaluation: its metrics belong to it."""
        if self._state.cursor < len(run.loader.sampler):
            self._save(run, {})
        else:
            self._owed = True

    def _is_evaluated(self, run: StageRun) -> bool:
        if not run.stage.evaluate or run.data.validation is None:
            return False
        done = self._position.epoch + 1
        return done == run.stage.epochs or done % self._training.evaluate_every_epochs == 0

    def _evaluate_epoch(self, run: StageRun) -> dict[str, float]:
        """Raises Stopped; the checkpoint then stands before the evaluation, which is repeated."""
        self._builder.share_buffers(run.evaluated)
        found = run.evaluator.run("validation", run.data, run.evaluated, self._between)
        self._loop.agreement.settle()
        if found is None:
            raise self._stop(run)
        gathered, metrics = found
        log.info(metric_line("val", metrics))
        if tracker := self._tracker.showing(self._position.step):
            self._recipe.report("validation", gathered, metrics, tracker)
            shown = self._recipe.pictures("validation", gathered, metrics)
            tracker.show_pictures("val", shown)
        return prefixed("val", metrics)

    def _between(self) -> bool:
        """Called by every rank between two batches of an evaluation: whether to leave it."""
        self._watchdog.allow("an evaluation and its report")
        return self._loop.agreement.ask(self._should_stop())

    def _judge(self, run: StageRun, evaluated: dict[str, float]) -> tuple[bool, bool]:
        """Take note of an evaluation: whether it is the best yet, and whether to end the stage."""
        is_best, ends = run.judge.judge(evaluated)
        metric = run.judge.metric
        if is_best and run.judge.best is not None:
            success("New best model! %s: %.4f", label(metric.name), run.judge.best)
        value = find_metric(evaluated, metric.name)
        if run.stage is self._stages[-1] and value is not None:
            self._progress.judged(self._position.step, value)
        watched = find_metric(evaluated, self._training.schedule.metric or metric.name)
        for schedule in run.stepper.schedules.values():
            if watched is not None:
                schedule.observe(watched)
        self._state.evaluated = evaluated
        return is_best, ends

    def _save(
        self,
        run: StageRun,
        evaluated: Mapping[str, float],
        need: Need = Need.USUAL,
        *,
        blocking: bool = False,
    ) -> None:
        """evaluated: metrics of this very state, by which the best checkpoint is chosen."""
        self._loop.require_finite(run)  # Never save what has diverged.
        if run.stage is not self._stages[-1]:
            evaluated = {f"{run.stage.name}/{name}": value for name, value in evaluated.items()}
        elif (value := find_metric(evaluated, self._policy.keep_best.name)) is not None:
            # keepBest may leave out the `val_`, and checkpoints are chosen by its word.
            evaluated = {**evaluated, self._policy.keep_best.name: value}
        blocking = blocking or not self._policy.is_async
        before = self._checkpointer.timing.blocked_seconds
        with self._watchdog.paused(), self._state.clock.paused():
            is_saved = self._checkpointer.save(
                self._state.manifest_position(),
                self._state.shared(run) | {"unstored_rows": self._tracker.unstored()},
                evaluated,
                replicated=self._state.replicated(run),
                rank_state=self._state.own(run),
                need=need,
                blocking=blocking,
            )
        if not is_saved and (blocking or need is Need.REQUIRED):
            raise CheckpointNotSaved(self._checkpointer.warning or "The checkpoint was not saved.")
        self._tracker.flush_soon()  # What the checkpoint has seen need not be seen again.
        cost = self._checkpointer.timing.blocked_seconds - before
        self._interval.note(time.monotonic(), cost, is_saved=is_saved)
        self._progress.write(self._position)

    def _stop(self, run: StageRun) -> Stopped:
        self._save(run, {}, blocking=True)
        return Stopped(f"Stopped on request at step {self._position.step}; a checkpoint is saved.")

    def _is_paused(self) -> bool:
        """Only where the evaluation is told: by that whoever waits for it knows of the pause."""
        step, curve = self._position.step, self._progress.curve
        return self._policy.pauses_at(step) and bool(curve) and curve[-1][0] == step

    def _pause(self, run: StageRun, evaluated: Mapping[str, float]) -> Stopped:
        self._save(run, evaluated, Need.REQUIRED, blocking=True)
        return Stopped(f"Paused at step {self._position.step}; a checkpoint is saved.")

    def _finish(self, run: StageRun) -> Outcome:
        """The best model on the final splits."""
        self._progress.steps = self._position.step
        best = 0
        if not self._training.evaluate_only or self._progress.resumed_step is not None:
            with self._watchdog.paused():
                best = load_best(self._storage, self._world, self._state)
        evaluated, step = dict(self._state.evaluated), self._position.step
        outcome = Outcome(metrics=evaluated, step=step, best_step=best)
        self._state.clock.start()
        finals: dict[str, Gathered] = {}
        for split in self._recipe.final_splits:
            if len(samples_of(run.data, split)) == 0:
                continue
            found = run.evaluator.run(split, run.data, self._modules, self._between)
            self._loop.agreement.settle()
            if found is None:
                raise Stopped("Stopped on request in the final evaluation, which is repeated.")
            finals[split], metrics = found
            log.info(metric_line(PREFIXES[split], metrics))
            outcome.metrics |= prefixed(PREFIXES[split], metrics)
            if tracker := self._tracker.showing(self._position.step):
                shown = self._recipe.pictures(split, finals[split], metrics)
                tracker.show_pictures(f"{PREFIXES[split]}_best", shown)
        self._state.clock.stop()
        outcome.seconds = self._state.clock.seconds
        self._progress.note(outcome.metrics)
        if tracker := self._tracker.showing(self._position.step):
            self._recipe.finish(finals, outcome.metrics, tracker)
        self._progress.write(self._position)
        return outcome
