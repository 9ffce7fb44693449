"""The tables of a sweep's report, as CSV and as Markdown. Pure."""

import csv
import io
from collections.abc import Iterable, Sequence

from trainyard_operator.sweep.effects import (
    Difference,
    cell,
    differences,
    importance,
    spreads,
)
from trainyard_operator.sweep.names import called, stopped_early, trials_text
from trainyard_operator.sweep.table import SweepTable
from trainyard_operator.wording import figure


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


def told_rows(table: SweepTable, *, is_brief: bool = False) -> list[list[str]]:
    """`trial_rows` for people: few digits, and no column that says the same of every trial.

    is_brief: of other metrics than the objective those of the test alone, where there are any.
    """
    trials = sorted(table.trials, key=lambda trial: trial.number)
    keys = sorted({key for trial in trials for key in trial.overrides})
    names = sorted({name for trial in trials for name in trial.metrics} - {table.metric})
    tested = [name for name in names if name.startswith("test_")]
    columns: list[tuple[str, list[str]]] = [
        ("name", ["" if trial.name == trial.job else trial.name for trial in trials]),
        ("state", [trial.state for trial in trials]),
        *((key, [cell(trial.overrides.get(key)) for trial in trials]) for key in keys),
        (table.metric, [_short(trial.value) for trial in trials]),
        *(
            (name, [_short(trial.metrics.get(name)) for trial in trials])
            for name in (tested if is_brief and tested else names)
        ),
        ("message", [trial.message for trial in trials]),
    ]
    kept = [("job", [trial.job for trial in trials])]
    kept += [one for one in columns if one[0] == table.metric or _tells(one[1])]
    rows = zip(*(cells for _, cells in kept), strict=True)
    return [[title for title, _ in kept], *map(list, rows)]


def _tells(cells: Sequence[str]) -> bool:
    return len(set(cells)) > 1 or (len(cells) == 1 and bool(cells[0]))


def _short(value: float | None) -> str:
    return "" if value is None else figure(value)


def to_csv(table: SweepTable) -> str:
    """`trial_rows`."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(trial_rows(table))
    return out.getvalue()


def lead(table: SweepTable) -> str:
    """The sweep in two sentences."""
    count = {s: sum(t.state == s for t in table.trials) for s in ("Succeeded", "Failed", "Stopped")}
    told = f"{count['Succeeded']} of {trials_text(_trials_to_be(table))} succeeded"
    told += f", {count['Failed']} failed" if count["Failed"] else ""
    told += f", {stopped_early(count['Stopped'])}" if count["Stopped"] else ""
    told += "." if table.is_final else "; the sweep has not ended."
    told += f" {trials_text(table.left_out, 'more ')} had no room here." if table.left_out else ""
    if not table.ranked:
        return told
    best, value = table.ranked[0]
    return (
        f"{told} Best {table.metric} {figure(value)} ({called(best.job, best.name)}){_mean(table)}."
    )


def _trials_to_be(table: SweepTable) -> int:
    """Those that are here, and while the sweep has not ended those that are to come."""
    to_come = 0 if table.is_final or table.total is None else table.total - table.left_out
    return max(to_come, len(table.trials))


def _mean(table: SweepTable) -> str:
    """Of the one setting that trials repeat, or of the best of several; empty without repeats."""
    all_ = spreads(table)
    found = [one for one in all_ if one.count > 1 or table.method == "folds"]
    if not found:
        return ""
    spread = found[0]
    std = "" if spread.std is None else f" ± {spread.std:.3g}"
    told = f"{figure(spread.mean)}{std} (standard deviation, n - 1) over {spread.count}"
    return f"; mean {told}" if len(all_) == 1 else f"; best mean {told}, {spread.label}"


def spread_rows(table: SweepTable) -> list[list[str]]:
    """Header and rows of `spreads`; empty where each setting has one trial."""
    found = spreads(table)
    if all(spread.count == 1 for spread in found):
        return []
    header = ["setting", "trials", f"mean {table.metric}", "standard deviation"]
    return [header] + [[s.label, str(s.count), _short(s.mean), _short(s.std)] for s in found]


def difference_rows(table: SweepTable) -> tuple[str, list[list[str]]]:
    """The reference, header and rows of `differences`; no rows where there is nothing to say."""
    if table.method not in {"list", "grid"}:
        return "", []
    reference, found = differences(table)
    rows = [[one.label, str(one.count), f"{one.mean:+.4g}", _interval(one)] for one in found]
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
        "Trials": told_rows(table),
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
