"""How much of the time that a run took did it good, from what its attempts say of themselves.

Every second since the run's first start is one of these:

- productive: in steps and evaluations that the newest state rests on; one that had to be repeated
  counts once, and saving does not count;
- repeated: in steps and evaluations that were lost with an attempt, and done again;
- checkpoint: training stood still to save;
- start: of the first attempt, before its first step, or its end where it made none;
- restart: between an attempt's last sign of life and the next first step; what an attempt did after
  its last sign of life, at most a flush interval, is counted here;
- other: reports, the building of later stages.

The ratio is productive / all.
"""

import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from trainyard_operator.layout import ATTEMPTS_PREFIX, attempt_file
from trainyard_trainer.storage import Storage


class Stopwatch:
    """Productive seconds over all attempts: a checkpoint holds them, and a resume goes on there."""

    def __init__(self) -> None:
        self._total = self._taken_over = 0.0
        self._since: float | None = None
        self.first_started: float | None = None
        """When this attempt's first step began, in seconds since 1970."""

    @property
    def seconds(self) -> float:
        """Up to now."""
        since = self._since
        return self._total + (time.monotonic() - since if since is not None else 0.0)

    @property
    def seconds_here(self) -> float:
        """Of this attempt alone."""
        return self.seconds - self._taken_over

    def take_over(self, seconds: float) -> None:
        """Go on from a checkpoint."""
        self._total = self._taken_over = seconds

    def start(self) -> None:
        """Steps or an evaluation begin."""
        self.first_started = self.first_started or time.time()
        if self._since is None:
            self._since = time.monotonic()

    def stop(self) -> None:
        """They end."""
        self._total, self._since = self.seconds, None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, time does not count; it runs on after, if it ran."""
        ran = self._since is not None
        self.stop()
        try:
            yield
        finally:
            if ran:
                self.start()


@dataclass(kw_only=True)
class AttemptRecord:
    """`attempts/a<attempt>.json`: written when an attempt begins, at each flush, and at its end."""

    attempt: int
    started: float
    """Rank 0's process began. In the file times are text, as everywhere."""
    seen: float
    """Last sign of life."""
    training_began: float | None = None
    """None: it never came to its first step."""
    from_step: int = 0
    """Step of the checkpoint that it went on from; 0 is the beginning."""
    step: int = 0
    """The last one known to be done."""
    training_seconds: float = 0.0
    """In steps and evaluations."""
    checkpoint_seconds: float = 0.0
    """Training stood still to save."""
    ended: str | None = None
    """done, stopped or failed; None: it was killed, or is still under way."""
    message: str | None = None
    """Why, in a sentence."""
    world_size: int = 1
    hosts: list[str] = field(default_factory=list)
    """Where each rank ran, and on what device."""
    config_hash: str = ""
    config_changes: list[str] = field(default_factory=list)
    """Against the checkpoint that it went on from: `key: old -> new`."""

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` reads."""
        fields = dataclasses.asdict(self)
        fields |= {name: time_text(fields[name]) for name in _TIMES if fields[name] is not None}
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "AttemptRecord":
        """Ignores unknown keys. Raises ValueError."""
        known = {one.name for one in dataclasses.fields(cls)}
        values = {key: value for key, value in fields.items() if key in known}
        try:
            values |= {name: _time(values[name]) for name in _TIMES if values.get(name)}
            return cls(**values)
        except TypeError as error:
            raise ValueError(str(error)) from error


_TIMES = ("started", "seen", "training_began")


def time_text(at: float) -> str:
    """Seconds since 1970 as UTC with milliseconds, since restarts take less than a second."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, kw_only=True)
class Goodput:
    """Where the time of a run went, in seconds; see above."""

    elapsed: float
    productive: float
    repeated: float
    checkpoint: float
    start: float
    restart: float
    lost_steps: int
    """Steps that were done, and had to be done again."""

    @property
    def ratio(self) -> float:
        """productive / elapsed."""
        return min(1.0, self.productive / self.elapsed) if self.elapsed > 0 else 0.0

    def to_result(self) -> dict[str, Any]:
        """For result.json."""
        parts = dataclasses.asdict(self)
        elapsed, lost_steps = parts.pop("elapsed"), parts.pop("lost_steps")
        seconds = {"elapsed": elapsed, **parts, "other": max(0.0, elapsed - sum(parts.values()))}
        named = {f"{name}_seconds": round(value, 3) for name, value in seconds.items()}
        return {"ratio": round(self.ratio, 4), **named, "lost_steps": lost_steps}

    def to_report(self) -> dict[str, Any]:
        """For contract.Report, as the status spells it."""
        return {
            "productiveSeconds": round(self.productive),
            "lostSteps": self.lost_steps,
            "restartSeconds": round(self.restart),
            "checkpointSeconds": round(self.checkpoint),
            "ratio": f"{self.ratio:.2f}",
        }


def measure(records: Sequence[AttemptRecord], productive: float, now: float) -> Goodput:
    """records: of all attempts, in their order. productive: as the newest state knows it."""
    trained = [record for record in records if record.training_began is not None]
    pairs = list(itertools.pairwise(trained))
    restart = sum((after.training_began or 0.0) - before.seen for before, after in pairs)
    first = records[0]
    start = (first.training_began or first.seen) - first.started
    if trained and trained[0] is not first:
        restart += (trained[0].training_began or 0.0) - first.seen
    return Goodput(
        elapsed=now - records[0].started,
        productive=productive,
        repeated=max(0.0, sum(record.training_seconds for record in records) - productive),
        checkpoint=sum(record.checkpoint_seconds for record in records),
        start=max(0.0, start),
        restart=max(0.0, restart),
        lost_steps=sum(max(0, before.step - after.from_step) for before, after in pairs),
    )


def read_attempts(storage: Storage, before: int) -> list[AttemptRecord]:
    """The records of all attempts that came before one; what is not readable is left out."""
    keys = {entry.key for entry in storage.list(f"{ATTEMPTS_PREFIX}/")}
    records = []
    for attempt in range(1, before):
        if (key := attempt_file(attempt)) in keys:
            with contextlib.suppress(ValueError, AttributeError):
                records.append(AttemptRecord.from_dict(json.loads(storage.read(key))))
    return records
