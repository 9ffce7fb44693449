"""How often to save by the clock: every so many seconds, or as often as a share of time allows.

The time is an argument, and only rank 0's counts: ranks then do as it says.
"""

LEAST_SECONDS = 30.0
"""Between two saves within an epoch, where nobody set an interval."""
RETRY_SECONDS = 10.0
"""After a save that was skipped because the one before it was still being uploaded."""


class Interval:
    """Either `seconds` are given, or the `share` of time that saves may hold up training."""

    def __init__(
        self, now: float, *, seconds: float | None = None, share: float | None = None
    ) -> None:
        self._seconds, self._share = seconds, share
        self._last = now
        """When training went on after the last save."""
        self._not_before = now
        self._cost = 0.0
        """What a save holds up training for, in seconds: the last one, and a little the older."""

    @property
    def shortest(self) -> float:
        """Seconds of training that pay for a save."""
        return self._cost / self._share - self._cost if self._share else 0.0

    def is_due(self, now: float) -> bool:
        """After a step: whether to save now."""
        if now < self._not_before:
            return False
        if self._share is not None:
            return now - self._last >= max(LEAST_SECONDS, self.shortest)
        return self._seconds is not None and now - self._last >= self._seconds

    def is_paid_for(self, now: float) -> bool:
        """After an epoch: whether a save keeps within the share; False where none is set."""
        return self._share is not None and now - self._last >= self.shortest

    def note(self, now: float, blocked_seconds: float, *, is_saved: bool) -> None:
        """After each save, or one that was skipped."""
        if not is_saved:
            self._not_before = now + RETRY_SECONDS
            return
        self._last = self._not_before = now
        self._cost = max(blocked_seconds, self._cost / 2)
