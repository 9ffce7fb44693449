"""The tables of a sweep's report, as CSV and as Markdown. Pure."""

import csv
import io
from collections.abc import Iterable, Sequence

from trainyard_operator.sweep.effects import (
    Difference,
    cell,
    differences,
    importance,
    mean_and_std,
    spreads,
)
from trainyard_operator.sweep.table import SweepTable


def trial_rows(table: SweepTable) -> list[list[str]]:
    """A header, and a row a trial: settings, the objective, then all of result.json's metrics."""
    trials = sorted(table.trials, key=lambda trial: trial.number)
    keys = sorted({key for trial in trials for key in trial.overrides})
    metrics = sorted({name for trial in trials for name in trial.metrics} - {table.metric})
    has_folds = any(trial.fold is not None for trial in trials)
    header = ["number", "name", "job", "state", *(["fold"] if has_folds else []), *keys]
    rows = [[*header, table.metric, *metrics, "message"]]
    for trial in trials:
        fold = [cell(trial.fold)] if has_folds else []
        settings = [cell(trial.overrides.get(key)) for key in keys]
        scores = [cell(trial.metrics.get(name)) for name in metrics]
        fixed = [str(trial.number), trial.name, trial.job, trial.state]
        rows.append([*fixed, *fold, *settings, cell(trial.value), *scores, trial.message])
    return rows


def to_csv(table: SweepTable) -> str:
    """`trial_rows`."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(trial_rows(table))
    return out.getvalue()


def lead(table: SweepTable) -> str:
    """The sweep in two sentences."""
    count = {s: sum(t.state == s for t in table.trials) for s in ("Succeeded", "Failed", "Stopped")}
    told = f"{count['Succeeded']} of {len(table.trials)} trials succeeded"
    told += f", {count['Failed']} failed" if count["Failed"] else ""
    told += f", {count['Stopped']} were stopped early" if count["Stopped"] else ""
    told += "." if table.is_final else "; the sweep goes on."
    told += f" {table.left_out} more trials had no room here." if table.left_out else ""
    if not table.ranked:
        return told
    best, value = table.ranked[0]
    told += f" Best {table.metric} {value:.6g} ({best.job}, {best.name})"
    if not table.valued:
        return f"{told}."
    spread = mean_and_std("", [value for _, value in table.valued])
    std = f" ± {spread.std:.6g}" if spread.std is not None else ""
    mean = f"mean {spread.mean:.6g}{std} (standard deviation, n - 1) over {spread.count}"
    return f"{told}; {mean}."


def spread_rows(table: SweepTable) -> list[list[str]]:
    """Header and rows of `spreads`; empty where each setting has one trial."""
    found = spreads(table)
    if all(spread.count == 1 for spread in found):
        return []
    header = ["setting", "trials", f"mean {table.metric}", "standard deviation"]
    return [header] + [[s.label, str(s.count), cell(s.mean), cell(s.std)] for s in found]


def difference_rows(table: SweepTable) -> tuple[str, list[list[str]]]:
    """The reference, header and rows of `differences`; no rows where there is nothing to say."""
    if table.method not in {"list", "grid"}:
        return "", []
    reference, found = differences(table)
    rows = [[one.label, str(one.count), f"{one.mean:+.6g}", _interval(one)] for one in found]
    header = ["setting", "pairs", "mean difference", "95 % interval"]
    return reference, [header, *rows] if rows else []


def sections(table: SweepTable) -> dict[str, list[list[str]]]:
    """Header and rows by title; those that have something to say."""
    reference, against = difference_rows(table)
    shares = importance(table) if table.method in {"grid", "random", "bayes"} else {}
    explained = [[key, f"{share:.0%}"] for key, share in shares.items()]
    found = {
        "Mean over folds and seeds": spread_rows(table),
        f"Against {reference}": against,
        "Importance": [["parameter", "variance explained"], *explained] if explained else [],
        "Trials": trial_rows(table),
    }
    return {title: rows for title, rows in found.items() if rows}


def to_markdown(table: SweepTable) -> str:
    """The tables for people."""
    parts = [f"# {table.name}\n", lead(table) + "\n"]
    parts += [f"## {title}\n\n{_markdown(rows)}" for title, rows in sections(table).items()]
    return "\n".join(parts)


def _interval(one: Difference) -> str:
    if one.low is None or one.high is None:
        return "one pair: none"
    return f"{one.low:+.4g} to {one.high:+.4g}"


def _markdown(rows: Iterable[Sequence[str]]) -> str:
    header, *body = ([one.replace("|", "\\|") for one in row] for row in rows)
    lines = [header, ["---"] * len(header), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
