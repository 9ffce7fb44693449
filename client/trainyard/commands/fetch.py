"""`trainyard fetch`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainyard.commands.arguments import (
    job_argument,
    storage_options,
    take_storage_flags,
)
from trainyard.errors import NotFound, UsageError
from trainyard.options import Settings, StorageFlags, Verb
from trainyard.output import may_animate, render_document, say

if TYPE_CHECKING:
    from trainyard.locate import StoredRun


@click.command("fetch", cls=Verb)
@job_argument()
@click.argument("which", metavar="[best|latest|STEP|COPY]", required=False)
@click.option("--best", "wants_best", is_flag=True, help="The same as best, which is the default.")
@click.option("-d", "--directory", type=click.Path(path_type=Path), help="Default: the job's name.")
@click.option(
    "--what",
    type=click.Choice(["weights", "all", "directory", "logs", "metrics", "report", "run"]),
    default="weights",
    show_default=True,
    help="all: also optimizers and the like, to go on training. directory: a copy of a program's "
    "checkpoint directory, which weights and all bring, too, where there is nothing else. report: "
    "report.html, and the pictures and reports of evaluations; of sweep/NAME the sweep's own. run: "
    "as the guide of the recipe lays it out.",
)
@storage_options()
@click.pass_obj
def command(
    settings: Settings,
    name: str,
    which: str | None,
    wants_best: bool,
    directory: Path | None,
    what: str,
    **typed: Any,
) -> None:
    """Download a checkpoint, verified against its SHA-256; prints where it lies.

    By default the best one; of a program given as command the latest, where keepBest is not set;
    of sweep/NAME that of the best trial. An interrupted download goes on where it stopped.
    With --storage it needs neither job nor cluster.
    """
    if wants_best and which not in {None, "best"}:
        raise UsageError(f"--best and {which} ask for two checkpoints; write one of them")
    from trainyard.jobs import meant_sweep

    flags, which = take_storage_flags(typed), "best" if wants_best else which
    where, sweep = meant_sweep(settings, name)
    if what == "report" and sweep:
        path = fetch_sweep_report(where, sweep, flags, directory)
    else:
        path = _fetch_of_run(settings, name, flags, which, directory, what)
    say(render_document(settings, {"path": str(path)}) if settings.is_structured else str(path))


def _fetch_of_run(
    settings: Settings,
    name: str,
    flags: StorageFlags,
    which: str | None,
    directory: Path | None,
    what: str,
) -> Path:
    from trainyard.locate import locate

    run = locate(settings, name, flags, "fetch")
    target = directory or Path(run.name)
    if what == "logs":
        return fetch_logs(run, target)
    if what == "metrics":
        return fetch_metrics(run, target)
    if what == "report":
        return fetch_report(run, target)
    if what == "run":
        from trainyard.rundirectory import lay_out

        lay_out(run, target)
        return target
    return fetch_checkpoint(settings, run, which, target, what)


def fetch_checkpoint(
    settings: Settings, run: "StoredRun", which: str | None, directory: Path, what: str
) -> Path:
    """A checkpoint, or a copy of a program's directory."""
    from trainyard.copies import is_copy_name, read_stored

    catalogue = read_stored(run, directory=what == "directory" or is_copy_name(which))
    meter = Meter(settings)
    try:
        return catalogue.fetch(which, directory, everything=what == "all", progress=meter)
    finally:
        meter.finish()


class Meter:
    """`412 of 1203 MB  34%  118 MB/s  7 s` on stderr: redrawn on a terminal, else now and then."""

    def __init__(self, settings: Settings) -> None:
        self._animates = may_animate(settings)
        self._is_quiet = settings.quiet or settings.is_structured
        self._began = time.monotonic()
        self._next = self._began + (0.25 if self._animates else 10)
        self._first: int | None = None
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        """Bytes that are there, and of all."""
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if self._is_quiet or now < self._next:
            return
        self._next = now + (0.25 if self._animates else 30)
        rate = (done - self._first) / (now - self._began)
        left = f"  {(total - done) / rate:.0f} s" if rate > 0 else ""
        percent = 100 * done // max(total, 1)
        text = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB  {percent}%  {rate / 1e6:.0f} MB/s{left}"
        if self._animates:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._drawn = True
        else:
            click.echo(text, err=True)

    def finish(self) -> None:
        """Leave a clean line."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def fetch_logs(run: "StoredRun", directory: Path) -> Path:
    """Every rank's log as a text file: `logs/a<attempt>/rank-<r>.log`."""
    import gzip

    from trainyard_operator.layout import LOGS_PREFIX

    target, seen = directory / "logs", set()
    for entry in run.storage.list(f"{LOGS_PREFIX}/"):
        _, attempt, rank, _ = entry.key.split("/", 3)
        path = target / attempt / f"{rank}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if path in seen else "wb") as file:
            file.write(gzip.decompress(run.storage.read(entry.key)))
        seen.add(path)
    if not seen:
        raise NotFound(f"'{run.name}' has stored no logs", f"trainyard logs {run.name}")
    return target


def fetch_metrics(run: "StoredRun", directory: Path) -> Path:
    """metrics.csv as far as it is known now, and result.json where the run has ended well."""
    from trainyard_operator.layout import METRICS_FILE, RESULT_FILE
    from trainyard_trainer.metrics_table import read_metrics

    rows = read_metrics(run.storage)
    if rows is None:
        raise NotFound(f"'{run.name}' has stored no metrics yet", f"trainyard get {run.name}")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / METRICS_FILE).write_text(rows.to_csv())
    if run.storage.exists(RESULT_FILE):
        (directory / RESULT_FILE).write_bytes(run.storage.read(RESULT_FILE))
    return directory / METRICS_FILE


def fetch_report(run: "StoredRun", directory: Path) -> Path:
    """report.html, which is there once the run has ended well; pictures and reports at any time."""
    from trainyard_operator.layout import PAGE_FILE, PICTURES_PREFIX, REPORTS_PREFIX

    keys = [
        entry.key
        for prefix in (PICTURES_PREFIX, REPORTS_PREFIX)
        for entry in run.storage.list(f"{prefix}/")
    ]
    has_page = run.storage.exists(PAGE_FILE)
    for key in [*keys, PAGE_FILE] if has_page else keys:
        path = directory / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(run.storage.read(key))
    if not keys and not has_page:
        raise NotFound(f"'{run.name}' has stored no report yet", f"trainyard get {run.name}")
    return directory / PAGE_FILE if has_page else directory


def fetch_sweep_report(
    settings: Settings, name: str, flags: StorageFlags, directory: Path | None
) -> Path:
    """The sweep's table, and its report to read."""
    from trainyard.locate import open_location, use_secret
    from trainyard.sweeps import find_sweep
    from trainyard_operator.sweep.table import CSV_FILE, MARKDOWN_FILE, PAGE_FILE, REPORT_PREFIX

    sweep, target = find_sweep(settings, name), directory or Path(name)
    where = sweep.storage | {"uri": f"{sweep.uri}/{REPORT_PREFIX}"}
    where |= {"endpoint": flags.endpoint} if flags.endpoint else {}
    use_secret(sweep.cluster, where)
    storage = open_location(where) if sweep.uri else None
    if storage is None or not storage.exists(PAGE_FILE):
        raise NotFound(f"'{name}' has stored no report yet", f"trainyard get {sweep.ref}")
    target.mkdir(parents=True, exist_ok=True)
    for key in (CSV_FILE, MARKDOWN_FILE, PAGE_FILE):
        (target / key).write_bytes(storage.read(key))
    return target / PAGE_FILE
