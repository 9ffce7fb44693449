"""What ranks note while they train: a file per rank, a line per step, written as it is done.

`step time process`; a line is one write, so that a killed rank leaves all that it did.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

VARIABLE = "NOTES_DIRECTORY"


class Note(NamedTuple):
    """A step that a rank has done."""

    step: int
    """Of the run, from 1."""
    time: float
    """By time.time()."""
    process: int


class Notebook:
    """A rank's own end."""

    def __init__(self, rank: int) -> None:
        path = Path(os.environ[VARIABLE]) / str(rank)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, step: int) -> None:
        """This step is done."""
        os.write(self._file, f"{step} {time.time():.6f} {os.getpid()}\n".encode())


@dataclass(frozen=True)
class Notes:
    """The reader's end."""

    directory: Path

    def read(self, rank: int) -> list[Note]:
        """All, in the order in which they were written."""
        try:
            lines = (self.directory / str(rank)).read_text().split("\n")
        except FileNotFoundError:
            return []
        # The last piece is empty, or a line that is being written.
        return [_parse(line) for line in lines[:-1]]

    def newest(self, rank: int) -> Note | None:
        """The last one."""
        try:
            with (self.directory / str(rank)).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 200))
                lines = file.read().decode().split("\n")
        except FileNotFoundError:
            return None
        return _parse(lines[-2]) if len(lines) > 1 else None


def _parse(line: str) -> Note:
    step, moment, process = line.split()
    return Note(int(step), float(moment), int(process))
