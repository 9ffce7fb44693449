"""Reads what a program writes, from the pieces that `program.py` makes of it."""

import json
from contextlib import suppress
from pathlib import Path

from trainyard_trainer.logs import LogStream
from trainyard_trainer.program import write_whole

READ_BYTES = 2**20
_PLACE = "output-read.json"


class OutputReader:
    """Follows the pieces, and deletes those that are read."""

    def __init__(self, shared: Path, folder: Path, stream: LogStream) -> None:
        """shared: where the place is noted, for a companion that starts again."""
        self._folder, self._stream, self._noted = folder, stream, shared / _PLACE
        self._piece, self._offset = "", 0
        with suppress(OSError, ValueError, TypeError):
            self._piece, self._offset = json.loads(self._noted.read_text())

    def read(self) -> None:
        """Take everything that is there."""
        while True:
            pieces = sorted(path.name for path in self._folder.glob("*.log"))
            if not pieces:
                return
            if self._piece not in pieces:
                self._piece, self._offset = pieces[0], 0
            self._read_piece(self._folder / self._piece)
            if self._piece == pieces[-1]:
                return
            (self._folder / self._piece).unlink(missing_ok=True)

    def note(self) -> None:
        """All that was read so far is on its way to storage."""
        with suppress(OSError):
            write_whole(self._noted, json.dumps([self._piece, self._offset]))

    def finish(self) -> None:
        """The program has ended: nothing more comes."""
        self.read()
        self._stream.finish()

    def _read_piece(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                file.seek(self._offset)
                while data := file.read(READ_BYTES):
                    self._offset += len(data)
                    self._stream.feed(data)
        except FileNotFoundError:
            return
