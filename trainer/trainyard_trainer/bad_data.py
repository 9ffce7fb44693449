"""What becomes of a sample that cannot be used: training stops, or leaves it out and counts it.

Whether a sample is usable is found out when a data set is listed, so that every rank leaves out the
same ones and a resumed run meets the same order.
"""

from typing import Literal

from trainyard_trainer.console import log
from trainyard_trainer.errors import ConfigurationError

OnBad = Literal["stop", "skip"]
_SHOWN = 20


class BadData:
    """Collects what is wrong with a data set."""

    def __init__(self, on_bad: OnBad) -> None:
        self._on_bad = on_bad
        self.skipped: list[str] = []
        """A sentence for each sample left out, naming its file."""

    def meet(self, sentence: str) -> None:
        """Raise ConfigurationError with the sentence, or take note of it."""
        if self._on_bad == "stop":
            raise ConfigurationError(sentence)
        self.skipped.append(sentence)
        log.warning("Skipped: %s", sentence)

    def report(self) -> str:
        """For a run's summary: how many were skipped and, for the first of them, why."""
        lines = [f"skipped: {len(self.skipped)}", *(f"  {one}" for one in self.skipped[:_SHOWN])]
        return "".join(f"{line}\n" for line in lines)
