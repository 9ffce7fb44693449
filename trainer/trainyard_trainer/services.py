"""What a rank's training works with, beside its recipe and its gang."""

from dataclasses import dataclass

from trainyard_trainer.checkpoint import Checkpointer
from trainyard_trainer.profiler import Profiler
from trainyard_trainer.progress import ProgressReport
from trainyard_trainer.storage import Storage
from trainyard_trainer.tracking import NoTracker, Tracker
from trainyard_trainer.watchdog import Watchdog


@dataclass(frozen=True, kw_only=True)
class Services:
    """Made by the worker, one of each for the whole attempt."""

    storage: Storage
    """The run's own."""
    checkpointer: Checkpointer
    tracker: Tracker | NoTracker
    progress: ProgressReport
    watchdog: Watchdog
    profiler: Profiler
