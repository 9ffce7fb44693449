"""Errors that a person reads, each with the exit code of the command that ends with it.

ClientError            1
|-- UsageError         2    the command line itself
|-- NotFound           3    no such job, run or object
|-- NotAllowed         4    the cluster or the storage refuses
|-- Rejected           5    the job is invalid
|-- Unreachable        6    no answer from cluster or storage
|-- JobFailed         10    the job ended badly
|-- JobStopped        11    the job was stopped, suspended or deleted
|-- CheckpointMissing 12    no such checkpoint, or a corrupt one
|-- WaitTimeout      124    --timeout ran out
`-- Interrupted      130    Ctrl-C
"""

import sys
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes of every command: frozen, a test pins them."""

    DONE = 0
    OTHER = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    REJECTED = 5
    UNREACHABLE = 6
    JOB_FAILED = 10
    JOB_STOPPED = 11
    CHECKPOINT_MISSING = 12
    TIMEOUT = 124
    INTERRUPTED = 130


class ClientError(Exception):
    """What went wrong, in a sentence; `help` is a command that goes on from there."""

    exit_code = Exit.OTHER

    def __init__(
        self, message: str, help: str | None = None, details: tuple[str, ...] = ()
    ) -> None:
        self.message, self.help, self.details = message, help, details
        super().__init__(message)

    def to_dict(self) -> dict[str, Any]:
        """For `-o json`."""
        body: dict[str, Any] = {"code": self.code, "message": self.message, "help": self.help}
        return {"error": body | ({"details": list(self.details)} if self.details else {})}

    @property
    def code(self) -> str:
        """One CamelCase word for scripts."""
        return type(self).__name__


class UsageError(ClientError):
    """The command line cannot be carried out as typed."""

    exit_code = Exit.USAGE


class NotFound(ClientError):
    """No such job, run or object."""

    exit_code = Exit.NOT_FOUND


class NotAllowed(ClientError):
    """The cluster or the storage refuses."""

    exit_code = Exit.NOT_ALLOWED


class Rejected(ClientError):
    """The job is invalid."""

    exit_code = Exit.REJECTED


class Unreachable(ClientError):
    """No answer from the cluster or the storage."""

    exit_code = Exit.UNREACHABLE


class JobFailed(ClientError):
    """The job ended badly."""

    exit_code = Exit.JOB_FAILED

    def __init__(
        self,
        message: str,
        help: str | None = None,
        details: tuple[str, ...] = (),
        *,
        cause: str | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(message, help, details)
        self.cause, self.rank = cause, rank

    @property
    def log_tail(self) -> tuple[str, ...]:
        """The last log lines of the rank that failed first."""
        return self.details


class JobStopped(ClientError):
    """The job was stopped, suspended or deleted."""

    exit_code = Exit.JOB_STOPPED


class CheckpointMissing(ClientError):
    """No such checkpoint, or a corrupt one."""

    exit_code = Exit.CHECKPOINT_MISSING


class WaitTimeout(ClientError):
    """--timeout ran out."""

    exit_code = Exit.TIMEOUT


class Interrupted(ClientError):
    """Ctrl-C."""

    exit_code = Exit.INTERRUPTED


_FOREIGN: dict[str, type[ClientError]] = {
    "StorageUnreachable": Unreachable,
    "AccessRefused": NotAllowed,
    "ProfileMissing": NotAllowed,
    "BucketMissing": NotFound,
    "ObjectMissing": NotFound,
    "RegionWrong": Rejected,
    "CheckpointError": CheckpointMissing,
    "ConfigurationError": Rejected,
    "StorageUriInvalid": Rejected,
}


def as_client_error(error: BaseException) -> ClientError | None:
    """The trainer's own errors, translated; None for anything unforeseen.

    The trainer is not imported for it: where its errors were raised, it is loaded already.
    """
    if isinstance(error, ClientError):
        return error
    trainer = sys.modules.get("trainyard_trainer.errors")
    if trainer is None or not isinstance(error, trainer.TrainyardError):
        return None
    for cls in type(error).__mro__:
        if cls.__name__ in _FOREIGN:
            return _FOREIGN[cls.__name__](str(error))
    return ClientError(str(error))
