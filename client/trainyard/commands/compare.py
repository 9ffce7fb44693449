"""`trainyard compare`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from trainyard.commands.arguments import storage_options, take_storage_flags
from trainyard.dotted import flattened
from trainyard.errors import NotFound
from trainyard.options import Settings, StorageFlags, Verb
from trainyard.output import render_document, render_table, say

if TYPE_CHECKING:
    from trainyard.jobs import Job
    from trainyard_operator.sweep.effects import Spread


@click.command("compare", cls=Verb)
@click.argument("names", metavar="JOB...", nargs=-1, required=True)
@click.option("--metric", "metrics", multiple=True, help="Which to show. Default: of the test.")
@storage_options()
@click.pass_obj
def command(
    settings: Settings, names: tuple[str, ...], metrics: tuple[str, ...], **typed: Any
) -> None:
    """Final metrics of ended jobs side by side, their mean and standard deviation.

    Such as of the folds of a cross-validation. Keys in which their configurations differ are shown
    beside the names. sweep/NAME stands for the sweep's trials that succeeded, and its objective is
    shown first; where it tries several settings, a mean over them would say nothing, and none is
    shown.

    \b
    trainyard compare fold-0 fold-1 fold-2 --metric test_accuracy
    """
    flags = take_storage_flags(typed)
    found = expanded(settings, names)
    results = dict(result_of(where, name, flags) for where, name in found.jobs)
    for name, ranked in found.ranked.items():
        if name in results:
            results[name]["metrics"] |= ranked
    chosen = list(metrics) or shared_metrics(results, found.objectives)
    for name, result in results.items():
        for metric in chosen:
            if metric not in result["metrics"]:
                known = ", ".join(sorted(result["metrics"]))
                raise NotFound(f"'{name}' has no metric '{metric}'; it has {known}")
    if settings.is_structured:
        say(render_document(settings, to_dict(results, chosen, found.are_repeats)))
    else:
        say(render_table(*table(results, chosen, found.are_repeats)))


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What was named, with its trials in place of a sweep."""

    jobs: list[tuple[Settings, str]]
    """Where to look, and for which."""
    are_repeats: bool
    """Whether a mean over them says something."""
    ranked: dict[str, dict[str, float]]
    """By trial: its sweep's objective, with the value that the sweep ranks it by: of the best
    checkpoint, where the last evaluation may have another."""

    @property
    def objectives(self) -> list[str]:
        """Of all the sweeps."""
        return list(dict.fromkeys(name for one in self.ranked.values() for name in one))


def expanded(settings: Settings, names: Sequence[str]) -> Compared:
    """Raises NotFound."""
    from trainyard.jobs import meant_sweep
    from trainyard.sweeps import find_sweep

    jobs: list[tuple[Settings, str]] = []
    ranked: dict[str, dict[str, float]] = {}
    are_repeats = True
    for name in names:
        where, sweep = meant_sweep(settings, name)
        if sweep is None:
            jobs.append((settings, name))
            continue
        whole = find_sweep(where, sweep)
        jobs += [(where, job) for job in whole.trials_done()]
        ranked |= whole.ranked()
        are_repeats = are_repeats and whole.status.summary is not None
    return Compared(jobs=jobs, are_repeats=are_repeats, ranked=ranked)


def result_of(settings: Settings, name: str, flags: StorageFlags) -> tuple[str, dict[str, Any]]:
    """The run's name and its result.json; of a program what it reported last. Raises NotFound."""
    from trainyard.locate import locate
    from trainyard_operator.layout import RESULT_FILE

    if program := _program(settings, name, flags):
        return program.name, _reported(program)
    run = locate(settings, name, flags, "compare")
    if not run.storage.exists(RESULT_FILE):
        raise NotFound(f"'{name}' has no result yet", f"trainyard get {name}")
    return run.name, json.loads(run.storage.read(RESULT_FILE))


def _program(settings: Settings, name: str, flags: StorageFlags) -> "Job | None":
    """The job, if it is there and runs a command: only a recipe leaves result.json."""
    from trainyard.jobs import find_job

    if flags.storage or flags.file:
        return None
    try:
        job = find_job(settings, name)
    except NotFound:
        return None
    return None if job.spec.get("recipe") else job


def _reported(job: "Job") -> dict[str, Any]:
    """As result.json has it: the metrics, and of a trial its setting as the configuration."""
    import math

    from trainyard_operator.sweep.record import trial_record

    if job.phase != "Succeeded":
        raise NotFound(f"'{job.name}' has no result yet", f"trainyard get {job.name}")
    told = job.status.progress.metrics if job.status.progress else {}
    metrics = {name: float(text) for name, text in told.items() if math.isfinite(float(text))}
    if not metrics:
        raise NotFound(f"'{job.name}' reported no metrics", f"trainyard logs {job.name}")
    trial = trial_record(job.object)
    fold = {} if trial is None or trial.fold is None else {"fold": trial.fold}
    return {"metrics": metrics, "config": {**(trial.overrides if trial else {}), **fold}}


def shared_metrics(
    results: Mapping[str, Mapping[str, Any]], objectives: Sequence[str] = ()
) -> list[str]:
    """The objectives, then those of the test, or all where there is no test; of these what every
    job has."""
    found = set.intersection(*(set(result["metrics"]) for result in results.values()))
    first = [name for name in objectives if name in found]
    tested = sorted(name for name in found if name.startswith("test_")) or sorted(found)
    return list(dict.fromkeys([*first, *tested]))


def differences(results: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Dotted keys in which the configurations differ, with each job's value."""
    flat = [flattened(result.get("config") or {}) for result in results.values()]
    keys = dict.fromkeys(key for one in flat for key in one)
    values = {key: [one.get(key) for one in flat] for key in keys}
    return {key: found for key, found in values.items() if any(v != found[0] for v in found)}


def spreads(
    results: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]
) -> "dict[str, Spread]":
    """Mean and deviation of each metric over the jobs."""
    from trainyard_operator.sweep.effects import mean_and_std

    return {m: mean_and_std(m, [one["metrics"][m] for one in results.values()]) for m in metrics}


def table(
    results: Mapping[str, Mapping[str, Any]], metrics: Sequence[str], are_repeats: bool
) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    from trainyard_operator.wording import figure

    told = differences(results)
    header = ["JOB", *(key.upper() for key in told), *(metric.upper() for metric in metrics)]
    rows = [
        [
            name,
            *(str(values[number]) for values in told.values()),
            *(figure(result["metrics"][metric]) for metric in metrics),
        ]
        for number, (name, result) in enumerate(results.items())
    ]
    if not are_repeats:
        return header, rows
    found = spreads(results, metrics)
    empty = [""] * len(told)
    rows.append(["mean", *empty, *(figure(found[m].mean) for m in metrics)])
    if len(results) > 1:
        rows.append(["std", *empty, *(figure(found[m].std or 0) for m in metrics)])
    return header, rows


def to_dict(
    results: Mapping[str, Mapping[str, Any]], metrics: Sequence[str], are_repeats: bool
) -> dict[str, Any]:
    """For programs."""
    told = differences(results)
    jobs = [
        {
            "name": name,
            "config": {key: values[number] for key, values in told.items()},
            "metrics": {metric: result["metrics"][metric] for metric in metrics},
        }
        for number, (name, result) in enumerate(results.items())
    ]
    found = spreads(results, metrics if are_repeats else ())
    return {
        "jobs": jobs,
        "mean": {metric: spread.mean for metric, spread in found.items()},
        "std": {metric: spread.std for metric, spread in found.items()},
    }
