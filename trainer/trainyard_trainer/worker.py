"""One rank from its fork to its exit: the launcher's processes begin at `run_rank`.

What a rank raises becomes its exit code in `rank_process`; here errors get their class.
"""

import contextlib
import json
import os
import platform
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import yaml

from trainyard_operator.layout import PAGE_FILE, RESULT_FILE, stall_file
from trainyard_trainer.card import CARD_FILE, Card
from trainyard_trainer.cgroup import processors
from trainyard_trainer.checkpoint import Best, Checkpointer, Identity, NodeMemory, Retention
from trainyard_trainer.config import (
    RecipeConfig,
    TrainingConfig,
    build_config,
    config_hash,
    parse_layer,
    read_layers,
)
from trainyard_trainer.console import log, say_on_every_rank, set_up_logging, success
from trainyard_trainer.context import Rank, failure_file, report_file
from trainyard_trainer.distributed import choose_device, is_peer_failure, join, lost_peer
from trainyard_trainer.engine import Engine
from trainyard_trainer.errors import Stopped
from trainyard_trainer.fence import Fence
from trainyard_trainer.gpu_memory import explain_exhaustion
from trainyard_trainer.initial import initial_weights
from trainyard_trainer.metrics_table import Rows, read_metrics
from trainyard_trainer.policy import CheckpointPolicy
from trainyard_trainer.profiler import Profiler
from trainyard_trainer.progress import ProgressReport
from trainyard_trainer.provenance import device_name
from trainyard_trainer.recipe import Recipe, Site
from trainyard_trainer.record import RunRecord
from trainyard_trainer.registry import load_recipe
from trainyard_trainer.report_page import build_page
from trainyard_trainer.sampler import mix
from trainyard_trainer.services import Services
from trainyard_trainer.storage import Storage
from trainyard_trainer.tracking import NoTracker, Tracker
from trainyard_trainer.watchdog import Watchdog


def run_rank(rank: Rank) -> int:
    """Train as one rank of the gang; returns 0 once result.json is stored.

    Raises Stopped after a checkpoint, PeerLost where another rank failed, ConfigurationError, and
    whatever the recipe's own code raises.
    """
    set_up_logging(rank.global_rank)
    with stop_flag() as should_stop:
        try:
            run = RankRun(rank, should_stop)
            signal.signal(signal.SIGUSR2, run.profiler.request)
            run.train()
        except Exception as error:
            if is_peer_failure(error):
                raise lost_peer(error) from error
            raise
    return 0


@contextlib.contextmanager
def stop_flag() -> "Iterator[StopFlag]":
    """SIGTERM and SIGINT only raise a flag inside; the handlers are put back after.

    SIGUSR2 does nothing until there is a step to profile; by itself it would end the process.
    """
    flag = StopFlag()
    handlers: dict[int, Any] = {
        signal.SIGTERM: flag.lift,
        signal.SIGINT: flag.lift,
        signal.SIGUSR2: signal.SIG_IGN,
    }
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopFlag:
    """Whether someone asked this process to stop."""

    def __init__(self) -> None:
        self._is_up = False

    def lift(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self._is_up = True

    def __call__(self) -> bool:
        """For the engine."""
        return self._is_up


class RankRun:
    """What one rank works with."""

    def __init__(self, rank: Rank, should_stop: Callable[[], bool]) -> None:
        run = rank.run
        recipe_class = load_recipe(run.request.recipe)
        self._rank, self._should_stop = rank, should_stop
        self.config = merged_config(rank, recipe_class.config_class)
        self._root = run.storage.open()
        self._storage: Storage = self._root.child(run.run_prefix)
        training = self.config.training
        set_up_torch(rank, training)
        self._watchdog = Watchdog(
            run.request.stall_timeout_seconds,
            failure_file(run.scratch, rank.global_rank),
            rank.global_rank,
            self._keep_stacks,
        )
        device = choose_device(training.device, rank.local_rank)
        self._world = join(rank, device)
        # The same networks on every rank, then different noise.
        seed_all(mix(training.seed, 0))
        self.recipe: Recipe[Any] = recipe_class(self.config, self._site(device))
        best = self.recipe.best
        policy = {**run.request.checkpoint, **self.config.checkpoint_policy()}
        self._policy = CheckpointPolicy.parse(policy, best)
        self._checkpointer = self._make_checkpointer()
        self._progress = ProgressReport(
            report_file(run.scratch) if rank.is_first else None, run.attempt, self._checkpointer
        )
        self._tracker = self._make_tracker()
        self.profiler = Profiler(training.profile, self._storage, run.attempt, rank.global_rank)
        hosts = self._world.gather(f"{platform.node()}: {device_name(device)}")
        self._record = RunRecord(self._storage, run, self.recipe, self._progress, hosts)
        if rank.is_first:
            self._tracker.before_flush = self._record.piece
            self._progress.goodput = self._record.goodput
            self._record.begin()
            text = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
            self._tracker.note(f"configuration/attempt_{run.attempt}", f"```\n{text}```")

    def train(self) -> None:
        """To the end: result.json, a last barrier, and out of the process group."""
        world = self._world
        say_on_every_rank(
            "Rank %d of %d trains on %s, %s",
            world.rank,
            world.world_size,
            platform.node(),
            world.device,
        )
        self._watchdog.start()
        engine = Engine(self.recipe, self._world, self._services(), self._policy, self._must_stop)
        self._leave_card()
        seed_all(mix(self.config.training.seed, 1, self._world.rank))
        try:
            outcome = engine.run(self._initial if self._policy.resume_from else None)
        except Stopped as stopped:
            self._record.end("stopped", str(stopped))
            self._leave()
            raise
        except torch.OutOfMemoryError as error:  # Beyond a step, such as in an evaluation.
            step = self.recipe.position.step
            exhausted = explain_exhaustion(error, step, self.recipe, {}, [])
            self._fail(exhausted)
            raise exhausted from error
        except Exception as error:
            self._fail(error)
            raise
        self._record.end("done")
        if self._world.is_first:
            self._tracker.close()
            Fence(self._storage, self._rank.run.attempt).check()
            result = self._record.result(outcome)
            self._store_page(result)
            self._storage.write(RESULT_FILE, result)
            success("Finished at step %d: %s", outcome.step, self._storage.uri_of(RESULT_FILE))
        self._leave()
        say_on_every_rank("Rank %d is done at step %d", world.rank, outcome.step)

    def _must_stop(self) -> bool:
        return self._should_stop() or self._tracker.is_superseded

    def _leave_card(self) -> None:
        """What the weights are for, once the recipe has looked at its data."""
        if self._rank.is_first:
            card = Card(
                recipe=self._rank.run.request.recipe,
                config=self.config.model_dump(mode="json"),
                labels=self.recipe.labels(),
                data_path=self.recipe.site.data_path,
            )
            self._tracker.file(CARD_FILE, card.to_json().encode())

    def _store_page(self, result: bytes) -> None:
        """The report for people; a run that lacks it has ended well all the same."""
        try:
            rows = read_metrics(self._storage) or Rows()
            page = build_page(json.loads(result), rows, self._tracker.gallery)
            self._storage.write(PAGE_FILE, page.encode())
        except Exception as error:
            log.warning("There is no %s: %s: %s", PAGE_FILE, type(error).__name__, error)

    def _leave(self) -> None:
        """With the others, in good order; without the last barrier gloo may abort."""
        self._tracker.close()
        self._progress.write(self.recipe.position)
        self._checkpointer.close()
        self._watchdog.stop()
        self._world.leave()

    def _keep_stacks(self, stacks: str) -> None:
        key = stall_file(self._rank.run.attempt, self._rank.global_rank)
        self._storage.write(key, stacks.encode())

    def _fail(self, error: Exception) -> None:
        """Keep the curves, unless a peer is to blame: then each moment delays the next attempt."""
        self._watchdog.stop()
        if not is_peer_failure(error):
            self._record.end("failed", "".join(traceback.format_exception_only(error)).strip())
            with contextlib.suppress(Exception):
                self._tracker.close()

    def _site(self, device: torch.device) -> Site:
        data_path, mounted = self.config.data.path, self._rank.run.request.dataset_path
        return Site(
            data_path=data_path or (Path(mounted) if mounted else None),
            scratch=self._rank.run.scratch,
            device=device,
            rank=self._world.rank,
            world_size=self._world.world_size,
            seed=self.config.training.seed,
        )

    def _make_checkpointer(self) -> Checkpointer:
        run, keep = self._rank.run, self._policy.keep_best
        identity = Identity(
            namespace=run.namespace,
            job=run.job,
            uid=run.uid,
            attempt=run.attempt,
            config_hash=config_hash(self.config),
        )
        name = keep.name
        best, policy = Best(metric=name, mode=keep.mode), self._policy
        retention = Retention(policy.keep_last, best, policy.keep_every_steps)
        place, ranks = run.node_memory, run.processes_per_node
        memory = NodeMemory(place, run.uid, ranks) if place else None
        return Checkpointer(self._storage, identity, self._world.gang, retention, memory)

    def _make_tracker(self) -> Tracker | NoTracker:
        run = self._rank.run
        if not self._rank.is_first:
            return NoTracker()
        return Tracker(
            self._storage,
            run.attempt,
            tensorboard=run.request.tensorboard and self.config.writes_tensorboard(),
            flush_seconds=run.flush_seconds,
        )

    def _services(self) -> Services:
        return Services(
            storage=self._storage,
            checkpointer=self._checkpointer,
            tracker=self._tracker,
            progress=self._progress,
            watchdog=self._watchdog,
            profiler=self.profiler,
        )

    def _initial(self) -> Any:
        source = self._policy.resume_from or {}
        log.info("Beginning with the weights of '%s'", source["job"])
        return initial_weights(self._root, self._rank.run.namespace, source, self._world)


def merged_config(rank: Rank, cls: type[RecipeConfig]) -> RecipeConfig:
    """Defaults, spec.configFrom, spec.config and spec.overrides. Raises ConfigurationError."""
    run = rank.run
    layers = [parse_layer(run.config_from, "spec.configFrom"), run.request.config]
    sources = ["spec.configFrom", "spec.config"]
    for layer in read_layers(cls, layers, run.request.overrides, sources):
        for notice in layer.notices:
            log.info("%s", notice)
    return build_config(cls, layers, run.request.overrides, sources)


def set_up_torch(rank: Rank, training: TrainingConfig) -> None:
    """This rank's share of the processors, and which algorithms are allowed."""
    if "OMP_NUM_THREADS" not in os.environ:  # The launcher sets it before torch is imported.
        torch.set_num_threads(max(1, processors() // rank.run.processes_per_node))
    torch.set_float32_matmul_precision(training.matmul_precision)
    torch.backends.cudnn.allow_tf32 = training.matmul_precision != "highest"
    if training.deterministic:
        # cuBLAS reads it when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    elif torch.cuda.is_available():
        torch.backends.cudnn.benchmark = training.cudnn_benchmark


def seed_all(seed: int) -> None:
    """Every global generator."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
