"""An attempt that was replaced writes nothing that its successor writes as well.

A node that is cut off from the cluster goes on training. As long as it reaches storage, or once it
does again, its attempt would put the run's table and result over those of the attempt that took its
place. Nothing but storage can tell it.
"""

import re
from dataclasses import dataclass

from trainyard_operator.contract import Cause, ExitCode
from trainyard_operator.layout import ATTEMPTS_PREFIX
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.storage import Storage


class Superseded(TrainyardError):
    """A later attempt of the same run has begun."""

    exit_code = ExitCode.PEER_LOST
    cause = Cause.PEER_LOST

    def __init__(self, attempt: int, newest: int) -> None:
        super().__init__(f"Attempt {newest} has begun: attempt {attempt} writes nothing more.")


@dataclass(frozen=True)
class Fence:
    """`storage` is that of one run."""

    storage: Storage
    attempt: int

    def check(self) -> None:
        """Raises Superseded, or TrainyardError where storage cannot tell."""
        keys = [entry.key for entry in self.storage.list(f"{ATTEMPTS_PREFIX}/")]
        found = (re.match(rf"{ATTEMPTS_PREFIX}/a(\d+)[.-]", key) for key in keys)
        newest = max((int(match[1]) for match in found if match), default=0)
        if newest > self.attempt:
            raise Superseded(self.attempt, newest)
