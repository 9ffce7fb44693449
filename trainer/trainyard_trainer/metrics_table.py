"""metrics.csv in pieces: what is new is written, and no row more than a handful of times.

    metrics/a<attempt>/<first>-<last>.csv    rows of an attempt's flushes first..last
    metrics.csv                              all of it, once it has grown by half, and at the end

Flush 0 of an attempt is what it took over: the rows before the step that it goes on from. So the
pieces of the highest attempt that has a flush 0 are the whole table. Every 8th flush writes the
last 8 once more as one piece, every 64th the last 64, and so on, and the smaller pieces go. Of two
rows with the same step the later one counts. No torch here: the client reads the table, too.
"""

import csv
import functools
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from trainyard_operator.contract import now_text
from trainyard_operator.layout import METRICS_FILE, METRICS_PREFIX, metrics_piece
from trainyard_trainer.outbox import Piece
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import ObjectMissing

FIXED_COLUMNS = ("step", "epoch", "stage", "attempt", "time")
MERGED = 8
"""Pieces that become one."""
SMALL_BYTES = 64 * 2**10
"""Up to this size metrics.csv is written at each flush."""
_PIECE = re.compile(rf"{METRICS_PREFIX}/a(\d+)/(\d+)-(\d+)\.csv")


@dataclass(kw_only=True)
class Rows:
    """Lines of a table, none of which holds a line break, by step."""

    columns: list[str] = field(default_factory=lambda: list(FIXED_COLUMNS))
    lines: dict[int, str] = field(default_factory=dict)

    def to_csv(self) -> str:
        """With a header."""
        return "".join(f"{line}\n" for line in (_line(self.columns), *self.lines.values()))

    def up_to(self, step: int) -> "Rows":
        """Without the rows of later steps."""
        kept = {number: line for number, line in self.lines.items() if number <= step}
        return Rows(columns=self.columns, lines=kept)

    def curve(self, metric: str) -> tuple[tuple[int, float], ...]:
        """(optimizer step, value) of each row that has the metric, in the order of the rows."""
        rows = csv.DictReader(self.to_csv().splitlines())
        points = ((int(row["step"]), row.get(metric)) for row in rows)
        return tuple((step, float(text)) for step, text in points if text)


def join_pieces(texts: Iterable[str]) -> Rows:
    """Pieces in their order; a later one has the columns of an earlier one, and maybe more."""
    columns: list[str] = []
    found: dict[int, tuple[int, str]] = {}
    for text in texts:
        header, *body = text.splitlines()
        columns = next(csv.reader([header]))
        found |= {int(line[: line.index(",")]): (len(columns), line) for line in body}
    lines = {step: line + "," * (len(columns) - n) for step, (n, line) in found.items()}
    return Rows(columns=columns, lines=lines)


def read_metrics(storage: Storage) -> Rows | None:
    """The table of a run, whether it still grows or not; None where there is none.

    storage: the run's own.
    """
    for _ in range(3):
        if not (keys := _newest_pieces(storage)):
            return None
        try:
            return join_pieces([storage.read(key).decode() for key in keys])
        except ObjectMissing:
            continue  # Pieces became one while we looked.
    return join_pieces([storage.read(key).decode() for key in _newest_pieces(storage)])


def _newest_pieces(storage: Storage) -> list[str]:
    """Keys of the highest attempt's pieces, the earlier rows first."""
    attempts: dict[int, list[tuple[int, int, str]]] = {}
    for entry in storage.list(f"{METRICS_PREFIX}/"):
        if named := _PIECE.fullmatch(entry.key):
            attempt, first, last = (int(number) for number in named.groups())
            attempts.setdefault(attempt, []).append((last, first, entry.key))
    whole = [a for a, pieces in attempts.items() if any(first == 0 for _, first, _ in pieces)]
    return [key for _, _, key in sorted(attempts[max(whole)])] if whole else []


class MetricsTable:
    """The table as the attempt that writes it has it in memory."""

    def __init__(self, attempt: int) -> None:
        self._attempt = attempt
        self._columns = dict.fromkeys(FIXED_COLUMNS)
        self._open: dict[int, dict[str, str]] = {}
        self._last: tuple[int, dict[str, str]] = (-1, {})
        self._flushes: list[tuple[int, str]] = []  # Number of columns, and lines.
        self._pieces: list[tuple[int, int]] = []
        self._written_characters = 0
        self._is_new = False
        """Whether metrics.csv lacks something."""

    def take_over(self, rows: Rows) -> Piece:
        """Flush 0, before all else."""
        self._columns = dict.fromkeys(rows.columns)
        self._flushes = [(len(rows.columns), "".join(f"{line}\n" for line in rows.lines.values()))]
        for step in list(rows.lines)[-1:]:
            cells = zip(rows.columns, next(csv.reader([rows.lines[step]])), strict=True)
            self._last = step, {name: value for name, value in cells if value}
        return self._piece(0, 0)

    @property
    def last_step(self) -> int:
        """Of the flushes so far; -1 where there is no row."""
        return self._last[0]

    def has(self, step: int, values: Mapping[str, float]) -> bool:
        """Whether the flushes so far hold a row, which comes from a checkpoint."""
        last_step, last = self._last
        return step < last_step or (step == last_step and values.keys() <= last.keys())

    def add(
        self,
        at: float,
        step: int,
        epoch: int,
        stage: str,
        values: Mapping[str, float],
        attempt: int | None = None,
    ) -> None:
        """Add columns to a step's row; steps come in their order. at: seconds since 1970."""
        if step not in self._open:
            self._open[step] = dict(self._last[1]) if step == self._last[0] else {}
        fixed = (
            step,
            epoch,
            " ".join(stage.split()),
            attempt or self._attempt,
            _time_text(int(at)),
        )
        row = self._open[step]
        row |= dict(zip(FIXED_COLUMNS, map(str, fixed), strict=True))
        row |= {name: f"{value:.8g}" for name, value in values.items()}
        self._columns |= dict.fromkeys(values)

    def cut(self) -> Piece | None:
        """What is new since the last time."""
        if not self._open:
            return None
        if self._last[0] in self._open:  # It got more: the new row takes the old one's place.
            width, text = self._flushes[-1]
            self._flushes[-1] = width, text[: text.rfind("\n", 0, -1) + 1]
        out = io.StringIO()
        writer = csv.DictWriter(out, list(self._columns), lineterminator="\n")
        writer.writerows(self._open.values())
        self._flushes.append((len(self._columns), out.getvalue()))
        self._last = self._open.popitem()
        self._open = {}
        number, span = len(self._flushes) - 1, 1
        while number % (span * MERGED) == 0:
            span *= MERGED
        return self._piece(number - span + 1, number)

    def take_whole(self, *, at_the_end: bool = False) -> Piece | None:
        """metrics.csv, where it is time to write it."""
        characters = sum(len(text) for _, text in self._flushes)
        has_grown = characters < SMALL_BYTES or characters >= 1.5 * self._written_characters
        if not self._is_new or not (has_grown or at_the_end):
            return None
        self._is_new, self._written_characters = False, characters
        return Piece(key=METRICS_FILE, data=self._text(0, len(self._flushes)))

    def _piece(self, first: int, last: int) -> Piece:
        self._is_new = True
        covered = [span for span in self._pieces if first <= span[0]]
        self._pieces = [span for span in self._pieces if first > span[0]] + [(first, last)]
        replaces = tuple(metrics_piece(self._attempt, *span) for span in covered)
        key = metrics_piece(self._attempt, first, last)
        return Piece(key=key, data=self._text(first, last + 1), replaces=replaces)

    def _text(self, begin: int, end: int) -> bytes:
        """A header and the lines of some flushes, each with all of the columns."""
        width = len(self._columns)
        parts = [f"{_line(self._columns)}\n"]
        for columns, text in self._flushes[begin:end]:
            parts.append(text.replace("\n", "," * (width - columns) + "\n"))
        return "".join(parts).encode()


@functools.lru_cache(2)
def _time_text(at: int) -> str:
    return now_text(datetime.fromtimestamp(at, UTC))


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()
