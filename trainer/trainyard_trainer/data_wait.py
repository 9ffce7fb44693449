"""How much of a step goes by before its batch is there: 0 where loading hides behind training."""


class DataWait:
    """One rank's, as its host sees it."""

    def __init__(self) -> None:
        self._waited = self._passed = 0.0

    def add(self, waited_seconds: float, step_seconds: float) -> None:
        """step_seconds: the waiting included. A rank that loads batches itself waits so long."""
        self._waited += waited_seconds
        self._passed += step_seconds

    def take(self) -> float:
        """Share of the steps since the last call, from 0 to 1; 0 where there was none."""
        share = self._waited / self._passed if self._passed else 0.0
        self._waited = self._passed = 0.0
        return share
