"""The mark of data that a generator made: SYNTHETIC.json beside it. No torch here."""

import json
from pathlib import Path
from typing import Any

SYNTHETIC_FILE = "SYNTHETIC.json"


def write_mark(directory: Path, generator: str, version: int, seed: int) -> None:
    """version: goes up whenever the same seed gives other data."""
    mark = {"generator": generator, "version": version, "seed": seed}
    (directory / SYNTHETIC_FILE).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")


def read_mark(directory: Path) -> dict[str, Any] | None:
    """What the mark says; None for data without one. One that cannot be read is a mark, too."""
    try:
        found = json.loads((directory / SYNTHETIC_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {"generator": "unknown"}
