"""A look at where a step's time goes, while the run goes on: torch.profiler, on demand.

Begun by `training.profile`, or by SIGUSR2 to a rank (its process id lies in the scratch directory,
see context.pid_file). Each rank leaves a trace that ui.perfetto.dev opens, and a table.
"""

import math
import tempfile
from pathlib import Path
from types import FrameType

import torch
from torch.profiler import ProfilerActivity, profile

from trainyard_operator.layout import profile_file
from trainyard_trainer.config import ProfileConfig
from trainyard_trainer.console import log, say_on_every_rank
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.storage import Storage

ROWS = 100
"""Of the table."""


class Profiler:
    """One rank's; costs a comparison a step while nothing is asked."""

    def __init__(
        self, config: ProfileConfig | None, storage: Storage, attempt: int, rank: int
    ) -> None:
        self._steps = (config or ProfileConfig()).steps
        self._storage, self._attempt, self._rank = storage, attempt, rank
        self._first = math.inf if config is None else config.start_step
        self.due = self._first - 1
        """The hot loop calls `turn` once so many steps are done."""
        self._running: profile | None = None
        self._begun = 0

    def request(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Begin at the next step; a signal handler."""
        if self._running is None:
            self.due = 0

    def turn(self, step: int) -> None:
        """Begin or end, `step` steps being done."""
        if self._running is not None:
            self._end(step)
        elif self.due == 0 or step < self._first:
            self._begin(step)
        else:
            self.due = math.inf  # The run was resumed beyond it.

    def close(self, step: int) -> None:
        """End what is under way."""
        if self._running is not None:
            self._end(step)

    def _begin(self, step: int) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._running = profile(activities=activities, record_shapes=True)
        self._running.start()
        self._begun, self.due = step, step + self._steps
        log.info("Profiling %d steps from step %d on", self._steps, step + 1)

    def _end(self, step: int) -> None:
        running, self._running, self.due = self._running, None, math.inf
        if running is None:
            return
        running.stop()
        key = profile_file(self._attempt, self._begun + 1, self._rank)
        try:
            self._store(running, key)
        except (TrainyardError, OSError) as error:
            log.warning("The profile is not kept: %s", error)
        else:
            uri = self._storage.uri_of(f"{key}.txt")
            say_on_every_rank("Profiled steps %d to %d: %s", self._begun + 1, step, uri)

    def _store(self, running: profile, key: str) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        table = running.key_averages().table(
            sort_by=f"self_{device}_time_total", row_limit=ROWS, max_name_column_width=80
        )
        self._storage.write(f"{key}.txt", table.encode())
        with tempfile.TemporaryDirectory() as place:
            trace = Path(place) / "trace.json.gz"
            running.export_chrome_trace(str(trace))
            self._storage.write(f"{key}.json.gz", trace.read_bytes())
