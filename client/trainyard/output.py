"""What is printed where: stdout what was asked for, stderr all else."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

from trainyard.options import Settings

_COLORS = {
    "Succeeded": "green",
    "Running": "cyan",
    "Failed": "red",
    "Restarting": "yellow",
    "Suspended": "yellow",
}


def may_color(settings: Settings, stream: TextIO) -> bool:
    """--no-color, NO_COLOR, TERM=dumb, FORCE_COLOR, then whether it is a terminal."""
    if settings.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def may_animate(settings: Settings, stream: TextIO | None = None) -> bool:
    """Whether lines may be redrawn: a terminal, and neither CI nor a dumb one."""
    stream = stream or sys.stderr
    hindered = settings.quiet or settings.is_structured or os.environ.get("CI")
    return stream.isatty() and not hindered and os.environ.get("TERM") != "dumb"


def styled(settings: Settings, text: str, stream: TextIO | None = None, **style: Any) -> str:
    """`text` in colour where that is allowed; the words alone always suffice."""
    return click.style(text, **style) if may_color(settings, stream or sys.stdout) else text


def phase_text(settings: Settings, phase: str, stream: TextIO | None = None) -> str:
    """A phase, coloured where that is allowed."""
    return styled(settings, phase, stream, fg=_COLORS.get(phase))


def say(text: str) -> None:
    """To stdout: part of what was asked for."""
    click.echo(text)


def note(settings: Settings, text: str) -> None:
    """To stderr, unless --quiet or a program reads along."""
    if not settings.quiet and not settings.is_structured:
        click.echo(text, err=True)


def render_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to the left, three spaces apart, nothing wrapped or cut."""
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(click.unstyle(line[i])) for line in lines) for i in range(len(header))]

    def render(line: Sequence[str]) -> str:
        cells = (
            cell + " " * (width - len(click.unstyle(cell)))
            for cell, width in zip(line, widths, strict=True)
        )
        return "   ".join(cells).rstrip()

    return "\n".join(render(line) for line in lines)


def without_empty(
    header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """The columns in which a row has something; all of them where there is no row."""
    kept = [place for place in range(len(header)) if not rows or any(row[place] for row in rows)]
    return [header[place] for place in kept], [[row[place] for place in kept] for row in rows]


def render_document(settings: Settings, value: Any) -> str:
    """One JSON or YAML document."""
    if settings.output == "yaml":
        import yaml

        return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip("\n")
    return json.dumps(value, indent=2, ensure_ascii=False)


def render_line(value: Any) -> str:
    """One JSON object on a line, for streams."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
