"""The plots of a sweep's report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainyard_operator.sweep.effects import differences, importance, spreads, variants
from trainyard_operator.sweep.table import ReportedTrial, SweepTable
from trainyard_trainer.pictures import COLOURS, Drawing

MOST_NAMED = 8
"""Curves that have a colour and a name each; more are coloured by how good they became."""
_MAP = "viridis"


def sweep_pictures(table: SweepTable) -> dict[str, Drawing]:
    """By name, those that have something to show."""
    searched = table.method in {"grid", "random", "bayes"}
    found: dict[str, Drawing | None] = {
        "learning curves": _curves(table),
        "parallel coordinates": _coordinates(table) if searched else None,
        "importance": _importance(table) if searched else None,
        "settings": _settings(table),
        "differences": None if searched and table.method != "grid" else _differences(table),
    }
    return {name: drawing for name, drawing in found.items() if drawing is not None}


def _curves(table: SweepTable) -> Drawing | None:
    lines = [trial for trial in table.trials if trial.curve]
    if all(len(trial.curve) == 1 for trial in lines):
        return None
    has_stopped = any(trial.state == "Stopped" for trial in lines)

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        colours = _colours(table, lines)
        for place, trial in enumerate(lines):
            steps, values = zip(*trial.curve, strict=True)
            label = trial.name if len(lines) <= MOST_NAMED else None
            # A line through one point is none.
            dot = "." if len(steps) == 1 and trial.state != "Stopped" else None
            axis.plot(steps, values, color=colours[place], label=label, linewidth=1, marker=dot)
            if trial.state == "Stopped":
                axis.plot(steps[-1], values[-1], "x", color=colours[place])
        axis.set_xlabel("step (x: stopped early)" if has_stopped else "step")
        axis.set_ylabel(table.metric)
        if len(lines) <= MOST_NAMED:
            axis.legend(fontsize="small")

    return Drawing(draw=draw)


def _colours(table: SweepTable, lines: Sequence[ReportedTrial]) -> list[Any]:
    """A colour each where they are few, else by rank: the best is the brightest."""
    if len(lines) <= MOST_NAMED:
        return list(COLOURS[: len(lines)])
    from matplotlib import colormaps

    sign = 1 if table.goal == "maximize" else -1
    order = sorted(lines, key=lambda trial: sign * trial.curve[-1][1])
    rank = {trial.number: place / (len(lines) - 1) for place, trial in enumerate(order)}
    return [colormaps[_MAP](rank[trial.number]) for trial in lines]


def _coordinates(table: SweepTable) -> Drawing | None:
    """A line a trial, an axis a parameter, the objective at the right."""
    pairs = table.valued
    keys = sorted({key for trial, _ in pairs for key in trial.overrides})
    if len(pairs) < 2 or not keys:
        return None
    columns = [_axis([trial.overrides.get(key) for trial, _ in pairs]) for key in keys]
    columns.append(_axis([value for _, value in pairs]))

    def draw(figure: Any) -> None:
        from matplotlib import colormaps

        axis = figure.subplots()
        for row in range(len(pairs)):
            heights = [column[0][row] for column in columns]
            share = heights[-1] if table.goal == "maximize" else 1 - heights[-1]
            axis.plot(range(len(columns)), heights, color=colormaps[_MAP](share), linewidth=1)
        for place, (_, marks) in enumerate(columns):
            axis.axvline(place, color="#999999", linewidth=1)
            for height, text in marks:
                axis.text(place, height, text, fontsize="x-small", ha="center", va="bottom")
        axis.set_xticks(range(len(columns)), [*keys, table.metric], fontsize="small")
        axis.set_yticks([])

    return Drawing(draw=draw, inches=(max(6.4, 1.8 * len(columns)), 4.8))


def _axis(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights from 0 to 1, and marks with their heights; logarithmic over two decades or more."""
    import math

    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        kinds = {str(value): place for place, value in enumerate(dict.fromkeys(map(str, values)))}
        top = max(len(kinds) - 1, 1)
        heights = [kinds[str(value)] / top for value in values]
        return heights, [(place / top, text) for text, place in kinds.items()]
    low, high = min(numbers), max(numbers)
    is_wide = low > 0 and high / low >= 100
    scaled = [math.log(v) if is_wide else float(v) for v in numbers]
    bottom, span = min(scaled), (max(scaled) - min(scaled)) or 1.0
    return [(v - bottom) / span for v in scaled], [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]


def _importance(table: SweepTable) -> Drawing | None:
    shares = importance(table)
    if not shares:
        return None

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        axis.barh(list(shares), list(shares.values()), color=COLOURS[0])
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.set_xlabel("share of the variance that it explains alone")

    return Drawing(draw=draw, inches=(6.4, 1.2 + 0.4 * len(shares)))


def _settings(table: SweepTable) -> Drawing | None:
    """Each fold and seed as a point, mean and standard deviation as a bar."""
    grouped = variants(table)
    if all(len(values) == 1 for values in grouped.values()):
        return None
    found = {spread.label: spread for spread in spreads(table)}

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for place, (label, values) in enumerate(grouped.items()):
            axis.plot([place] * len(values), list(values.values()), ".", color="#999999")
            one = found[label]
            axis.errorbar(place, one.mean, yerr=one.std or 0, fmt="o", capsize=4, color=COLOURS[0])
        _name_places(axis, list(grouped))
        axis.set_ylabel(f"{table.metric}, mean ± standard deviation")

    return Drawing(draw=draw, inches=(max(6.4, 0.6 * len(grouped)), 4.8))


def _differences(table: SweepTable) -> Drawing | None:
    reference, found = differences(table)
    if not found:
        return None

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for place, one in enumerate(found):
            half = 0.0 if one.high is None else one.high - one.mean
            axis.errorbar(place, one.mean, yerr=half, fmt="o", capsize=4, color=COLOURS[0])
        axis.axhline(0, color="#999999", linewidth=1)
        _name_places(axis, [one.label for one in found])
        axis.set_ylabel(f"{table.metric} less that of {reference}, 95 % interval")

    return Drawing(draw=draw, inches=(max(6.4, 0.6 * len(found)), 4.8))


def _name_places(axis: Any, names: Sequence[str]) -> None:
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize="small")


def render(
    drawings: Mapping[str, Drawing], encode: Callable[[Any], bytes]
) -> tuple[dict[str, bytes], str]:
    """PNGs by name, and why there are none."""
    try:
        return {name: encode(drawing.render()) for name, drawing in drawings.items()}, ""
    except ModuleNotFoundError as error:
        return {}, f"No plots: the image has no {error.name}; install 'trainyard[recipes]'."
