"""What a sweep has shown: means over folds and seeds, differences with their uncertainty, and how
much each parameter matters. Pure.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from trainyard_operator.sweep.table import ReportedTrial, SweepTable

SEED_KEYS = frozenset({"seed", "training.seed"})
"""Trials that differ in nothing else are repeats of one variant."""
T_975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
"""Student's t at 97.5 %, for 1 to 30 degrees of freedom."""
Pair = tuple[int | None, str]
"""Fold and seed: trials of two variants that have the same are compared."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Some values of the objective."""

    label: str
    count: int
    mean: float
    std: float | None
    """Of a sample (n - 1); None for a single value."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A variant less the reference, over the folds or seeds that both have."""

    label: str
    count: int
    mean: float
    low: float | None
    """The 95 % confidence interval of the mean; None for a single pair."""
    high: float | None


def mean_and_std(label: str, values: Sequence[float]) -> Spread:
    """values: at least one."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return Spread(label=label, count=len(values), mean=statistics.fmean(values), std=std)


def variants(table: SweepTable) -> dict[str, dict[Pair, float]]:
    """The objective of each setting, by fold and seed, in the order of the trials."""
    found: dict[str, dict[Pair, float]] = {}
    for trial, value in table.valued:
        pair = (trial.fold, _text({k: v for k, v in trial.overrides.items() if k in SEED_KEYS}))
        found.setdefault(variant_of(table, trial), {})[pair] = value
    return found


def variant_of(table: SweepTable, trial: ReportedTrial) -> str:
    """What the trials of one setting are called; those of `list` by the name of the first."""
    setting = _setting(trial)
    if table.method != "list":
        return ", ".join(f"{key}={cell(value)}" for key, value in setting.items()) or "template"
    same = [one for one in table.trials if _setting(one) == setting]
    first = min(same, key=lambda one: one.number)
    return first.name.removesuffix(f"-fold-{first.fold}")


def spreads(table: SweepTable) -> list[Spread]:
    """Mean and deviation of each setting over its folds and seeds, the best first."""
    found = [
        mean_and_std(label, list(values.values())) for label, values in variants(table).items()
    ]
    sign = -1 if table.goal == "maximize" else 1
    return sorted(found, key=lambda spread: sign * spread.mean)


def differences(table: SweepTable) -> tuple[str, list[Difference]]:
    """The reference's name, and what each other variant adds to it, pair by pair.

    The reference is the variant that changes nothing, or else the first. Folds share what they are
    trained on, so that plain intervals would be too narrow: theirs have the variance of Nadeau and
    Bengio 2003, 1/n + 1/(k - 1) instead of 1/n for k folds.
    """
    grouped = variants(table)
    plain = (variant_of(table, t) for t, _ in table.valued if not _setting(t))
    reference = next(plain, next(iter(grouped), ""))
    base = grouped.pop(reference, {})
    found = []
    for label, values in grouped.items():
        gaps = [value - base[pair] for pair, value in values.items() if pair in base]
        if gaps:
            found.append(_difference(label, gaps, table.folds))
    return reference, found


def importance(table: SweepTable) -> dict[str, float]:
    """Share of the objective's variance that each parameter explains alone, the largest first.

    Values of a number are put into up to four groups of equal size; the share is epsilon squared
    (Kelley 1935), which chance does not raise. Stopped and failed trials do not count.
    """
    keys = dict.fromkeys(key for trial, _ in table.valued for key in trial.overrides)
    found = {}
    for key in keys:
        pairs = [(t.overrides[key], v) for t, v in table.valued if key in t.overrides]
        groups = _grouped(pairs)
        if len(groups) > 1 and len(pairs) > len(groups):
            found[key] = _epsilon_squared(groups)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _difference(label: str, gaps: Sequence[float], folds: int | None) -> Difference:
    mean, count = statistics.fmean(gaps), len(gaps)
    if count == 1:
        return Difference(label=label, count=1, mean=mean, low=None, high=None)
    shared = 1 / (folds - 1) if folds else 0.0
    quantile = T_975[count - 2] if count - 2 < len(T_975) else 1.96
    half = quantile * statistics.stdev(gaps) * math.sqrt(1 / count + shared)
    return Difference(label=label, count=count, mean=mean, low=mean - half, high=mean + half)


def _setting(trial: ReportedTrial) -> dict[str, Any]:
    return {key: value for key, value in trial.overrides.items() if key not in SEED_KEYS}


def _grouped(pairs: Sequence[tuple[Any, float]]) -> list[list[float]]:
    """Values of the objective by what a parameter was."""
    values = {_text(value): value for value, _ in pairs}
    by_value: dict[str, list[float]] = {text: [] for text in values}
    for value, objective in pairs:
        by_value[_text(value)].append(objective)
    are_numbers = all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in values.values()
    )
    if not are_numbers or len(values) <= 4:
        return list(by_value.values())
    ordered = [objective for _, objective in sorted(pairs, key=lambda pair: pair[0])]
    cuts = [len(ordered) * quarter // 4 for quarter in range(5)]
    return [ordered[low:high] for low, high in pairwise(cuts)]


def _epsilon_squared(groups: Sequence[Sequence[float]]) -> float:
    values = [value for group in groups for value in group]
    mean, count = statistics.fmean(values), len(values)
    total = sum((value - mean) ** 2 for value in values)
    within = sum((value - statistics.fmean(group)) ** 2 for group in groups for value in group)
    if not total:
        return 0.0
    by_chance = (len(groups) - 1) * within / (count - len(groups))
    return max(0.0, (total - within - by_chance) / total)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def cell(value: Any) -> str:
    """A value in a table, with all of its digits."""
    return "" if value is None else str(value)
