"""A run's results under the names that a recipe's guide gives them. No torch here.

A recipe may have `outputs.py` with `outputs(result, kept)`: paths and what lies there. `trainyard
fetch JOB --what run` carries it out.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class Kept(NamedTuple):
    """A checkpoint that is there."""

    step: int
    epoch: int
    """Of the run, from 0: the epoch that it ended, or is in."""
    metrics: Mapping[str, float]
    names: tuple[str, ...]
    """best, latest, both or none."""


class Source(NamedTuple):
    """What a file is made of."""

    kind: Literal["weights", "stored", "folder", "log", "text"]
    """stored: one object. folder: all objects below a prefix. log: what rank 0 printed."""
    value: str = ""
    """Step, key, prefix or the text itself."""


Result = Mapping[str, Any]
"""What result.json holds."""
