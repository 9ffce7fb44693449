"""A job as it goes on: redrawn in place on a terminal, a line for each event elsewhere."""

import sys
import time
from typing import Any, TextIO

import click

from trainyard.jobs import Job
from trainyard.options import Settings
from trainyard.output import may_animate, may_color, phase_text, render_line
from trainyard.quantities import utc_now
from trainyard.story import bar, history_line, metrics_line, progress_key, progress_line

FRAME_SECONDS = 0.25
FIRST_LINE_SECONDS = 2.0
LINE_SECONDS = 30.0
"""Between two lines of progress; it starts at the former and doubles up to the latter."""


class Display:
    """Shows one job; `update` may be called as often as one likes."""

    def __init__(self, settings: Settings, stream: TextIO | None = None) -> None:
        """stream: where lines go where nothing is redrawn; None: stderr."""
        self._settings = settings
        self._stream = stream or sys.stderr
        self._told: set[tuple[str, str, int]] | None = None
        self._gap = FIRST_LINE_SECONDS
        self._line_at = time.monotonic() + FIRST_LINE_SECONDS
        self._drawn_at = 0.0
        self._key: Any = None
        self._live: Any = None

    def __enter__(self) -> "Display":
        if may_animate(self._settings):
            from rich.console import Console
            from rich.live import Live

            console = Console(
                stderr=True, highlight=False, no_color=not may_color(self._settings, sys.stderr)
            )
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def skip_history(self, job: Job) -> None:
        """Tell only what happens from now on."""
        self._told = {_key_of(entry) for entry in job.status.history}

    def update(self, job: Job) -> None:
        """Show what is new."""
        if self._settings.is_structured:
            self._update_structured(job)
            return
        self._tell_history(job)
        if self._live:
            self._draw(job)
        else:
            self._tell_progress(job)

    def say(self, text: str) -> None:
        """A line beside the job's own."""
        if self._settings.quiet or self._settings.is_structured:
            return
        if self._live:
            self._live.console.print(text, markup=False, soft_wrap=True)
        else:
            click.echo(text, file=self._stream)

    def _tell_history(self, job: Job) -> None:
        self._told = set() if self._told is None else self._told
        for entry in job.status.history:
            if _key_of(entry) not in self._told:
                self._told.add(_key_of(entry))
                self.say(history_line(entry, utc_now()))
                self._line_at = max(self._line_at, time.monotonic() + FIRST_LINE_SECONDS)

    def _tell_progress(self, job: Job) -> None:
        now, key = time.monotonic(), progress_key(job.status)
        if now < self._line_at or key == self._key or job.status.progress is None:
            return
        self._key, self._line_at = key, now + self._gap
        self._gap = min(self._gap * 2, LINE_SECONDS)
        percent = job.status.progress.percent
        share = f"{percent}%  " if percent is not None else ""
        self.say(f"       {progress_line(job, utc_now())}  {share}{metrics_line(job)}".rstrip())

    def _draw(self, job: Job) -> None:
        from rich.text import Text

        now = time.monotonic()
        if now < self._drawn_at + FRAME_SECONDS:
            return
        self._drawn_at = now
        line = progress_line(job, utc_now())
        phase = phase_text(self._settings, job.phase, sys.stderr)
        lines = [line.replace(job.phase, phase, 1)]
        if progress := job.status.progress:
            lines.append(f"{bar(progress.percent)}  {metrics_line(job)}")
        text = Text.from_ansi("\n".join(lines), no_wrap=True, overflow="ellipsis")
        self._live.update(text, refresh=True)

    def _update_structured(self, job: Job) -> None:
        """One JSON object a line, whenever something changed."""
        status = job.object.get("status") or {}
        if status != self._key and self._settings.output == "json":
            self._key = status
            click.echo(render_line({"name": job.name, "status": status}), file=self._stream)


def _key_of(entry: Any) -> tuple[str, str, int]:
    return (entry.time, entry.message, entry.attempt)
