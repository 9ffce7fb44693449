"""From how a program ended to one sentence, one exit code and one cause. Pure."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard_operator.contract import EXIT_CAUSES, Cause, ExitCode, Summary
from trainyard_operator.torchrun import last_words, own_lines
from trainyard_trainer.summary import signal_name

LINE_CHARACTERS = 400
TAIL_LINES = 20


@dataclass(frozen=True, kw_only=True)
class End:
    """How it ended, as `program.py` says."""

    exit_code: int | None = None
    """Negative: minus the number of the signal that killed it; None: it was never started."""
    ended: float | None = None
    """Unix time."""
    stopped: bool = False
    """Whether it had been asked to stop."""
    killed: bool = False
    """Whether `program.py` killed it."""
    out_of_memory: bool = False
    start_error: str = ""
    stalled_seconds: int | None = None
    """How long it had reported no step, where it was killed for that."""

    @property
    def is_clean(self) -> bool:
        """Whether it came to an end of its own, so that its directory is what it meant to leave."""
        return self.exit_code == 0 or (self.stopped and not self.killed)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], stalled_seconds: int | None) -> "End":
        """What `program.py` wrote."""
        keys = ("exit_code", "ended", "stopped", "killed", "out_of_memory")
        known = {key: raw[key] for key in keys}
        return cls(**known, start_error=str(raw["start_error"]), stalled_seconds=stalled_seconds)


def compose(end: End, command: Sequence[str], rank: int | None, tail: Sequence[str]) -> Summary:
    """The summary of a node, without its report. rank: of a program that is one process a node."""
    who = "the program" if rank is None else f"rank {rank}"
    if end.start_error:
        return Summary(
            exit_code=ExitCode.CONFIGURATION,
            message=f"spec.command: cannot start '{command[0]}' ({end.start_error}); correct it, "
            "or spec.image",
            cause=Cause.CONFIGURATION,
        )
    if end.stalled_seconds is not None:
        return _failed(
            1, f"{who} reported no step for {end.stalled_seconds} s", Cause.STALLED, rank, tail
        )
    if end.stopped or end.exit_code is None:
        return _stopped(end, who)
    if end.exit_code == 0:
        return Summary(exit_code=0, message=f"{who} ended well")
    return _exited(end.exit_code, end, who, rank, tail)


def _stopped(end: End, who: str) -> Summary:
    late = f"; {who} did not stop in time and was killed" if end.killed else ""
    before = " before it began" if end.exit_code is None else ""
    return Summary(
        exit_code=ExitCode.CHECKPOINTED,
        message=f"stopped on request{before}{late}",
        cause=Cause.CHECKPOINTED,
    )


def _exited(code: int, end: End, who: str, rank: int | None, tail: Sequence[str]) -> Summary:
    if code > 0:
        words = last_words(tail)
        message = f"{who} exited with code {code}" + (f": {words}" if words else "")
        # Without a cause: it may have died of a lost peer, and cannot say so.
        return _failed(code, message, EXIT_CAUSES.get(code), rank, tail)
    message = f"{who} was killed by {signal_name(-code)}"
    if code == -signal.SIGKILL and end.out_of_memory:
        message = f"{who} exceeded its memory limit; raise resources.limits.memory"
        return _failed(128 - code, message, Cause.OUT_OF_MEMORY, rank, tail)
    if code == -signal.SIGKILL:
        message += "; if memory ran out, raise resources.limits.memory"
    return _failed(128 - code, message, None, rank, tail)


def _failed(
    code: int, message: str, cause: Cause | None, rank: int | None, tail: Sequence[str]
) -> Summary:
    lines = [line[:LINE_CHARACTERS] for line in own_lines(tail)[-TAIL_LINES:]]
    return Summary(exit_code=code, message=message, cause=cause, rank=rank, log_tail=lines)
