"""The run as one HTML file that opens from a disk: nothing in it is fetched from anywhere."""

import base64
import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import yaml

from trainyard_trainer.metrics_table import FIXED_COLUMNS, Rows
from trainyard_trainer.pictures import COLOURS

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; border: 1px solid #ccc }
td { font-variant-numeric: tabular-nums } th { text-align: left }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top }
figcaption { font-size: .85rem } img { max-width: 100%; image-rendering: auto }
.synthetic { background: #fff3cd; border: 1px solid #e0c060; padding: .5rem 1rem }
"""
_WIDTH, _HEIGHT = 340, 200
_PAD = 34
_MOST_POINTS = 400


def build_page(result: Mapping[str, Any], rows: Rows, pictures: Mapping[str, bytes]) -> str:
    """The whole page. result: what result.json holds. pictures: PNG by name."""
    mark = (result.get("data") or {}).get("synthetic")
    title = f"{result['job']}: {result['recipe']}"
    if mark:
        title = f"SYNTHETIC DATA: {title}"
    sections = {
        "Metrics": _metrics(result),
        "Notes": table(sorted((result.get("notes") or {}).items())),
        "Curves": _curves(rows),
        "Pictures": figures(pictures),
        "Configuration": _pre(result.get("config")),
        "Where it comes from": _provenance(result),
    }
    body = [f"<h1>{escape(title)}</h1>", _warning(mark) if mark else "", _lead(result)]
    body += [f"<h2>{name}</h2>{content}" for name, content in sections.items() if content]
    return document(title, "".join(body))


def document(title: str, body: str) -> str:
    """The file. body: HTML."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{body}</body></html>\n"


def _warning(mark: Mapping[str, Any]) -> str:
    made = ", ".join(f"{key} {value}" for key, value in mark.items())
    return (
        "<p class=synthetic>The data is synthetic: scores on it show that the plumbing works, and "
        f"are no clinical result. Made by: {escape(made)}.</p>"
    )


def _lead(result: Mapping[str, Any]) -> str:
    attempts = len(result.get("attempts") or ())
    text = (
        f"{result['step']} steps in {result['training_seconds']:.0f} s of training on "
        f"{result['world_size']} rank(s), in {attempts} attempt(s); ended {result['finished_at']}. "
        f"The metrics are those of the checkpoint of step {result['best_step']}."
    )
    return f"<p>{escape(text)}</p>"


def _metrics(result: Mapping[str, Any]) -> str:
    splits = {name: one for name, one in result["splits"].items() if one["metrics"]}
    names = sorted({name for one in splits.values() for name in one["metrics"]})
    head = ["", *(f"{name} ({one['samples']} samples)" for name, one in splits.items())]
    rows = [
        [name, *(_number(one["metrics"].get(name)) for one in splits.values())] for name in names
    ]
    return table(rows, head)


def _curves(rows: Rows) -> str:
    """A chart for each metric, with its splits as lines."""
    lines: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(dict)
    for row in csv.DictReader(rows.to_csv().splitlines()):
        for column, text in row.items():
            if column in FIXED_COLUMNS or not text:
                continue
            split, _, name = column.partition("_")
            split, name = (split, name) if split in ("train", "val") else ("", column)
            lines[name].setdefault(split, []).append((float(row["step"]), float(text)))
    charts = [(name, chart) for name, chart in sorted(lines.items())]
    return "".join(
        f"<figure>{_chart(chart)}<figcaption>{escape(name)}</figcaption></figure>"
        for name, chart in charts
        if any(len(points) > 1 for points in chart.values())
    )


def _chart(chart: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    points = [p for line in chart.values() for p in line if abs(p[1]) < float("inf")]
    if not points:
        return "<p>not finite</p>"
    (left, right), (low, high) = (_bounds([p[axis] for p in points]) for axis in (0, 1))
    parts = []
    for number, (name, line) in enumerate(chart.items()):
        colour = COLOURS[number % len(COLOURS)]
        thinned = line[:: max(1, len(line) // _MOST_POINTS)]
        path = " ".join(
            f"{_PAD + (x - left) / (right - left) * (_WIDTH - _PAD):.1f},"
            f"{(high - y) / (high - low) * (_HEIGHT - 20):.1f}"
            for x, y in thinned
            if abs(y) < float("inf")
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
        parts.append(
            f'<text x="{_WIDTH - 4}" y="{14 + 13 * number}" text-anchor="end" fill="{colour}">'
            f"{escape(name)}</text>"
        )
    parts += [f'<text x="0" y="11">{high:.3g}</text>', f'<text x="0" y="{_HEIGHT - 20}">{low:.3g}']
    parts.append(f'</text><text x="{_PAD}" y="{_HEIGHT - 4}">step {left:g} to {right:g}</text>')
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" font-size="11"'
    return f"<svg {box}>{''.join(parts)}</svg>"


def figures(pictures: Mapping[str, bytes]) -> str:
    """PNGs by name, below each other or side by side."""
    return "".join(
        f'<figure><img alt="{escape(name)}" src="data:image/png;base64,'
        f'{base64.b64encode(data).decode()}"><figcaption>{escape(name)}</figcaption></figure>'
        for name, data in sorted(pictures.items())
    )


def _provenance(result: Mapping[str, Any]) -> str:
    keys = ("namespace", "uid", "started_at", "seed", "config_hash", "image", "overrides")
    rest = {key: result.get(key) for key in keys}
    rest |= {key: result.get(key) for key in ("data", "versions", "revisions", "attempts")}
    return _pre(rest)


def _pre(value: Any) -> str:
    return f"<pre>{escape(yaml.safe_dump(value, sort_keys=False, width=100))}</pre>"


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Empty without rows."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
    top = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>" if head else ""
    return f"<table>{top}{body}</table>" if body else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
