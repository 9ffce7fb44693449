"""Errors that a person reads, each with the exit code of the process that raises it.

TrainyardError               1
|-- ConfigurationError      78   the job cannot run as written; never retried
|-- PeerLost                76   another rank died or hung
`-- Stopped                 75   asked to stop; a checkpoint was saved
"""

from trainyard_operator.contract import Cause, ExitCode


class TrainyardError(Exception):
    """One sentence: where, what, what to write instead."""

    exit_code: int = 1
    cause: Cause = Cause.USER_EXIT


class ConfigurationError(TrainyardError):
    """The job cannot run as written."""

    exit_code = ExitCode.CONFIGURATION
    cause = Cause.CONFIGURATION


class PeerLost(TrainyardError):
    """Another rank died or hung; this one is not to blame."""

    exit_code = ExitCode.PEER_LOST
    cause = Cause.PEER_LOST


class Stopped(TrainyardError):
    """The run was asked to stop and saved a checkpoint."""

    exit_code = ExitCode.CHECKPOINTED
    cause = Cause.CHECKPOINTED
