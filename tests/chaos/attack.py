"""One job through `trainyard run`, and what hits it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.gang import Gang
from chaos.schedule import Kill
from chaos.wire import Wire
from patience import HANG_SECONDS

from trainyard.local.node_memory import SHARED_MEMORY

LAUNCHER = "launcher of rank "
RANKS = 2


@dataclass(frozen=True)
class Place:
    """Where one run of the job has its files."""

    root: Path
    job_file: Path
    packages: str
    """PYTHONPATH of the recipes."""
    nodes: int

    @property
    def output(self) -> Path:
        """What `trainyard run` printed."""
        return self.root / "output.log"

    @property
    def job_object(self) -> dict[str, Any]:
        """The TrainingJob as the runner keeps it."""
        (file,) = self.root.glob("state/trainyard/jobs/*/*/job.json")
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    @property
    def prefix(self) -> str:
        """Of the run below its storage."""
        meta = self.job_object["metadata"]
        return f"{meta['namespace']}/{meta['name']}/{meta['uid']}"

    def forget(self, rank: int) -> None:
        """The node of a rank loses its memory, as where a pod is gone."""
        node = rank * self.nodes // RANKS
        memory = SHARED_MEMORY / f"trainyard-{self.job_object['metadata']['uid']}-{node}"
        shutil.rmtree(memory, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Of `trainyard run`, and through it of every rank."""
        paths = [self.packages, *filter(None, sys.path)]
        return os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "XDG_STATE_HOME": str(self.root / "state"),
            "CHAOS_DIRECTORY": str(self.root),
            "CHAOS_STORE": str(self.root / "store"),
            "OMP_NUM_THREADS": "1",
        }


@dataclass
class Blow:
    """A kill that took place."""

    kill: Kill
    step: int
    """The newest that had been made; 0 while it resumed."""
    victims: list[str]


@dataclass
class Outcome:
    """How a run went."""

    seconds: float = 0.0
    blows: list[Blow] = field(default_factory=list)
    missed: list[Kill] = field(default_factory=list)
    """They met nothing alive, and were tried again."""
    repeated_steps: int = 0


def run(place: Place, kills: Sequence[Kill], wire: Wire | None = None) -> Outcome:
    """To the end, under attack; raises NothingHappens where it does not get on."""
    outcome, began = Outcome(), time.monotonic()
    with started(place) as runner:
        gang = Gang(place.root / "events", runner.pid, RANKS, lambda: runner.poll() is not None)
        for kill in kills:
            for victim in hit(gang, kill, wire, outcome):
                if victim.startswith(LAUNCHER):
                    place.forget(int(victim.removeprefix(LAUNCHER)))
            gang.bury()
        try:
            code = runner.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
    gang.refresh()
    assert code == 0, f"`trainyard run` ended with {code}:\n{place.output.read_text()[-4000:]}"
    outcome.seconds, outcome.repeated_steps = time.monotonic() - began, gang.repeated_steps()
    return outcome


@contextmanager
def started(place: Place) -> "Iterator[subprocess.Popen[bytes]]":
    """`trainyard run` of the job's file; ended with the block."""
    command = [sys.executable, "-m", "trainyard.cli", "run", str(place.job_file), "--fresh"]
    with place.output.open("wb") as output:
        runner = subprocess.Popen(
            command, env=place.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield runner
        finally:
            if runner.poll() is None:
                runner.terminate()
                runner.terminate()
            runner.wait()


def hit(gang: Gang, kill: Kill, wire: Wire | None, outcome: Outcome) -> list[str]:
    """Wait for the moment and kill; returns who was alive until then."""
    for _ in range(5):
        approach(gang, kill, wire)
        time.sleep(kill.delay)
        gang.refresh()
        step = gang.step
        victims = gang.strike(kill)
        if wire is not None:
            wire.release()
        if victims:
            outcome.blows.append(Blow(kill, step, victims))
            return victims
        outcome.missed.append(kill)
    raise AssertionError(f"{kill} met nobody")


def approach(gang: Gang, kill: Kill, wire: Wire | None) -> None:
    """Return at the moment of the blow."""
    if kill.kind == "order":
        gang.until(lambda: bool(gang.born), "the next attempt")
    elif kill.kind == "resume":
        gang.until(lambda: bool(gang.members), "the next attempt")
    elif kill.kind != "final":
        gang.until(lambda: gang.step >= kill.at_step, f"step {kill.at_step}")
    if kill.touch is not None and wire is not None:
        wire.arm(kill.touch)
        gang.until(wire.is_tripped, f"{kill.kind} ({kill.touch})")
