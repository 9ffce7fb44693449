"""From how the ranks of a node ended to one sentence, one exit code and one cause. Pure."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

from trainyard_operator.contract import EXIT_CAUSES, Cause, ExitCode, Summary
from trainyard_trainer.context import Failure

LINE_CHARACTERS = 400
"""A log line in a summary is cut to this."""
_OUT_OF_MEMORY_HINT = "if memory ran out, raise resources.limits.memory"


@dataclass(frozen=True, kw_only=True)
class RankEnd:
    """How one rank ended, and what it left."""

    rank: int
    exit_code: int
    """Negative: minus the number of the signal that killed it."""
    time: float
    """On the monotonic clock."""
    told: signal.Signals | None = None
    """What the launcher had sent it by then: SIGTERM or SIGKILL."""
    was_stopped: bool = False
    """Whether it was stopped, as by SIGSTOP, when the launcher killed it."""
    failure: Failure | None = None
    """What the rank says of itself."""
    log_tail: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What else is known of an attempt's end on this node."""

    stop_seconds: float | None = None
    """How long ranks were given to stop on request; None: no stop was requested."""
    for_restart: bool = False
    """Whether ranks were killed to start again in place."""
    fork_server_code: int | None = None
    """How the fork server ended, where it did so before the ranks."""
    out_of_memory: bool = False
    """Whether the kernel killed a process for want of memory."""
    memory_limit_bytes: int | None = None
    node_log_tail: list[str] = field(default_factory=list)


def compose(ends: Sequence[RankEnd], known: Circumstances) -> Summary:
    """The summary of a node, without its report.

    A rank's own failure outranks one that blames a peer; among equals the first to end counts.
    """
    end = min(
        (end for end in ends if end.exit_code != 0),
        key=lambda end: (_weight(end), end.time),
        default=None,
    )
    if known.fork_server_code is not None and (end is None or _weight(end) > 0):
        return _fork_server_lost(known.fork_server_code, known)
    if end is None:
        return Summary(exit_code=0, message="every rank ended well")
    if _weight(end) == _SENT:
        return _stopped_by_signal(end, known)
    if _weight(end) == _WAITED and (mute := _mute(ends)):
        return _did_not_answer(mute, end)
    message, cause = _explain(end, known)
    code = _shell_code(end.exit_code)
    log_tail = [] if code == ExitCode.CHECKPOINTED else _shortened(end.log_tail)
    return Summary(
        exit_code=code,
        message=message,
        cause=cause,
        rank=end.rank,
        log_tail=log_tail,
        waited=_weight(end) == _WAITED,
    )


_OWN, _STALLED, _WAITED, _BLAMES_PEER, _CHECKPOINTED, _SENT = range(6)
_WEIGHTS: dict[int, int] = {
    ExitCode.PEER_LOST: _BLAMES_PEER,
    ExitCode.CHECKPOINTED: _CHECKPOINTED,
}


def _weight(end: RankEnd) -> int:
    """How much an end explains; less is more."""
    sent = {signal.SIGTERM: (-signal.SIGTERM,), signal.SIGKILL: (-signal.SIGTERM, -signal.SIGKILL)}
    if end.told is not None and end.exit_code in sent[end.told]:
        return _SENT
    if end.failure is not None and end.failure.cause == Cause.STALLED:
        return _WAITED if end.failure.waited else _STALLED
    return _WEIGHTS.get(end.exit_code, _OWN)


def _mute(ends: Sequence[RankEnd]) -> RankEnd | None:
    """A rank that had to be killed, for not even its watchdog said a word."""
    return next((e for e in ends if e.exit_code == -signal.SIGKILL and _weight(e) == _SENT), None)


def _did_not_answer(mute: RankEnd, waiting: RankEnd) -> Summary:
    why = "; it was stopped, as by SIGSTOP" if mute.was_stopped else ""
    return Summary(
        exit_code=ExitCode.PEER_LOST,
        message=f"rank {mute.rank} made no progress and did not answer its watchdog{why}; "
        f"rank {waiting.rank} waited for it",
        cause=Cause.STALLED,
        rank=mute.rank,
        log_tail=_shortened(mute.log_tail),
    )


def _explain(end: RankEnd, known: Circumstances) -> tuple[str, str]:
    """The sentence and the cause of a rank that ended by itself."""
    if end.exit_code < 0:
        return _killed(f"rank {end.rank}", end.exit_code, known)
    if end.failure is not None:
        first_line = end.failure.message.strip().partition("\n")[0]
        speaks_for_all = end.exit_code in (ExitCode.CONFIGURATION, ExitCode.CHECKPOINTED)
        message = first_line if speaks_for_all else f"rank {end.rank}: {first_line}"
        return message, end.failure.cause
    last = next((line for line in reversed(end.log_tail) if line.strip()), None)
    message = f"rank {end.rank} exited with code {end.exit_code}"
    if last is not None:
        message += f": {last.strip()[:LINE_CHARACTERS]}"
    return message, EXIT_CAUSES.get(end.exit_code, Cause.USER_EXIT)


def _killed(who: str, exit_code: int, known: Circumstances) -> tuple[str, str]:
    name = signal_name(-exit_code)
    if exit_code != -signal.SIGKILL:
        return f"{who} was killed by {name}", Cause.USER_EXIT
    if not known.out_of_memory:
        return f"{who} was killed by {name}; {_OUT_OF_MEMORY_HINT}", Cause.USER_EXIT
    limit = known.memory_limit_bytes
    size = f"its {limit / 2**30:.3g} GiB memory limit" if limit else "its memory limit"
    return f"{who} exceeded {size}; raise resources.limits.memory", Cause.OUT_OF_MEMORY


def _stopped_by_signal(end: RankEnd, known: Circumstances) -> Summary:
    """No rank ended otherwise than by what the launcher sent on a request to stop."""
    if end.exit_code == -signal.SIGTERM:
        return Summary(
            exit_code=ExitCode.CHECKPOINTED,
            message="stopped on request before training began",
            cause=Cause.CHECKPOINTED,
        )
    if known.for_restart:
        return Summary(
            exit_code=_shell_code(-signal.SIGTERM),
            message=f"rank {end.rank} was killed for a restart in place that was called off",
            cause=Cause.POD_DELETED,
            rank=end.rank,
        )
    waited = f" within {known.stop_seconds:.0f} s" if known.stop_seconds else ""
    return Summary(
        exit_code=_shell_code(-signal.SIGTERM),
        message=f"rank {end.rank} did not stop{waited} of the request and was killed",
        cause=Cause.POD_DELETED,
        rank=end.rank,
        log_tail=_shortened(end.log_tail),
    )


def _fork_server_lost(exit_code: int, known: Circumstances) -> Summary:
    who = "the process that ranks are forked from"
    if exit_code < 0:
        message, cause = _killed(who, exit_code, known)
    else:
        message, cause = f"{who} exited with code {exit_code}", Cause.USER_EXIT
    return Summary(
        exit_code=_shell_code(exit_code) or 1,
        message=message,
        cause=cause,
        log_tail=_shortened(known.node_log_tail),
    )


def _shell_code(exit_code: int) -> int:
    return exit_code if exit_code >= 0 else 128 - exit_code


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _shortened(lines: Sequence[str]) -> list[str]:
    return [line[:LINE_CHARACTERS] for line in lines]
