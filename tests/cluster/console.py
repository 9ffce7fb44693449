"""What the person at the terminal reads: a line for each step, and one for an error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class ClusterError(Exception):
    """The test cluster cannot do what was asked; the text says why and what to do."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Prints the title with the seconds it took; with FAILED if it raised."""
    started = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"{time.monotonic() - started:7.1f} s  {title}: FAILED")
        raise
    say(f"{time.monotonic() - started:7.1f} s  {title}")
