"""A benchmark's table, for a terminal and for docs/benchmarks.md."""

from dataclasses import dataclass
from pathlib import Path

from bench.comparison import Row
from bench.machine import Machine

HEADER = ["what", "ours", "other", "ratio", "bound", "kept"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
END = "<!-- end -->\n"


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one benchmark found."""

    name: str
    rows: tuple[Row, ...]
    machine: Machine
    seconds: float
    """The whole benchmark."""

    @property
    def notes(self) -> list[str]:
        """What is to be known of some lines."""
        return [f"{row.what}: {row.note}" for row in self.rows if row.note]


def as_text(section: Section) -> str:
    """Aligned columns, then what is to be known of them."""
    rows = [HEADER, *(row.cells() for row in section.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *section.notes, describe(section)])


def write_page(section: Section) -> None:
    """Replace the measured part of the benchmark's section; the words around it stay."""
    rows = [HEADER, ["---"] * len(HEADER), *(row.cells() for row in section.rows)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    notes = "".join(f"- {note}.\n" for note in section.notes)
    begin = f"<!-- {section.name}: written by tests/bench/run.py --write -->\n"
    before, found, rest = PAGE.read_text().partition(begin)
    if not found:
        raise ValueError(f"{PAGE.name} has no line '{begin.strip()}'")
    after = rest.partition(END)[2]
    measured = f"\n{table}\n{notes}\n{describe(section)}\n\n".replace("\n\n\n", "\n\n")
    PAGE.write_text(f"{before}{begin}{measured}{END}{after}")


def describe(section: Section) -> str:
    """A line for those who compare."""
    machine = section.machine
    return (
        f"{machine.date}, {section.seconds:.0f} s; {machine.cores} cores of {machine.cpu}, "
        f"{machine.memory_gib:.0f} GiB; {machine.versions}; load average {machine.load_before:.1f} "
        f"before, {machine.load_after:.1f} after."
    )
