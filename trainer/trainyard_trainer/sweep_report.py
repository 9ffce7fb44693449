"""The report of a sweep: CSV, Markdown and a page with plots, beside its trials.

    TRAINYARD_SWEEP_TABLE=... python -m trainyard_trainer.sweep_report s3://bucket/ns/sweep/uid

Runs as a small pod of the sweep's on a cluster, and inside `trainyard run` on one machine. What it
reads are the trials' own result.json and metrics.csv; it may be run again at any time, and the
table that it is given decides what the report says. Nothing here imports torch.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from html import escape

from trainyard_operator.contract import Env
from trainyard_operator.layout import RESULT_FILE, run_prefix
from trainyard_operator.sweep.report import lead, sections, to_csv, to_markdown
from trainyard_operator.sweep.table import (
    CSV_FILE,
    MARKDOWN_FILE,
    PAGE_FILE,
    REPORT_PREFIX,
    TABLE_ENV,
    TRIALS_PREFIX,
    ReportedTrial,
    SweepTable,
    with_results,
)
from trainyard_trainer.context import StorageLocation
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.events import encode_png
from trainyard_trainer.metrics_table import read_metrics
from trainyard_trainer.report_page import document, figures
from trainyard_trainer.report_page import table as html_table
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import ObjectMissing
from trainyard_trainer.sweep_pictures import render, sweep_pictures

READERS = 16
"""Trials that are read at a time."""
MOST_CURVES = 64
"""Curves of the best trials that are drawn; all are in the trials' own storage."""


def write_report(storage: Storage, table: SweepTable) -> SweepTable:
    """Write the report. storage: the sweep's own. Returns the table with what the trials say."""
    full = read_trials(storage, table)
    drawn, why = render(sweep_pictures(full), encode_png)
    files = {
        CSV_FILE: to_csv(full),
        MARKDOWN_FILE: to_markdown(full),
        PAGE_FILE: build_sweep_page(full, drawn, why),
    }
    for name, text in files.items():
        storage.write(f"{REPORT_PREFIX}/{name}", text.encode())
    return full


def read_trials(storage: Storage, table: SweepTable) -> SweepTable:
    """The table with the metrics that trials ended with, and the best ones' curves."""
    with ThreadPoolExecutor(READERS) as readers:
        results = list(
            readers.map(lambda trial: _result(_home(storage, table, trial)), table.trials)
        )
        full = with_results(
            table, {t.number: found for t, found in zip(table.trials, results, strict=True)}
        )
        shown = {trial.number for trial, _ in full.ranked[:MOST_CURVES]}
        shown |= {trial.number for trial in full.trials[:MOST_CURVES]}
        chosen = [trial for trial in full.trials if trial.number in shown]
        curves = dict(readers.map(lambda trial: _curve(storage, full, trial), chosen))
    trials = tuple(replace(t, curve=curves.get(t.number, t.curve)) for t in full.trials)
    return replace(full, trials=trials)


def build_sweep_page(table: SweepTable, drawn: dict[str, bytes], why: str = "") -> str:
    """HTML that opens from a disk. drawn: PNG by name; why: why there are none."""
    body = [f"<h1>{escape(table.name)}</h1>", f"<p>{escape(lead(table))}</p>"]
    if drawn or why:
        body.append(f"<h2>Plots</h2>{figures(drawn) or f'<p>{escape(why)}</p>'}")
    for title, rows in sections(table).items():
        body.append(f"<h2>{escape(title)}</h2>{html_table(rows[1:], rows[0])}")
    return document(f"{table.name}: {table.method}", "".join(body))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("uri", help="everything of the sweep lies below it")
    told = parser.parse_args(arguments)
    location = StorageLocation(
        uri=told.uri,
        endpoint=os.environ.get(Env.STORAGE_ENDPOINT),
        region=os.environ.get(Env.STORAGE_REGION),
        compat=os.environ.get(Env.STORAGE_COMPAT),
    )
    try:
        table = SweepTable.from_text(os.environ.get(TABLE_ENV, ""))
        full = write_report(location.open(), table)
    except (TrainyardError, ValueError) as error:
        print(
            f"{TABLE_ENV if isinstance(error, ValueError) else told.uri}: {error}", file=sys.stderr
        )
        return 1
    print(f"{told.uri}/{REPORT_PREFIX}: {lead(full)}")
    return 0


def _home(storage: Storage, table: SweepTable, trial: ReportedTrial) -> Storage:
    """Where a trial's run lies."""
    return storage.child(f"{TRIALS_PREFIX}/{run_prefix(table.namespace, trial.job, trial.uid)}")


def _result(home: Storage) -> dict[str, float]:
    """Metrics of result.json; empty where the trial left none."""
    with suppress(ObjectMissing, ValueError, AttributeError):
        return dict(json.loads(home.read(RESULT_FILE))["metrics"])
    return {}


def _curve(
    storage: Storage, table: SweepTable, trial: ReportedTrial
) -> tuple[int, tuple[tuple[int, float], ...]]:
    rows = read_metrics(_home(storage, table, trial))
    return trial.number, rows.curve(table.metric) if rows else ()


if __name__ == "__main__":
    sys.exit(main())
