"""What a run leaves beside its pictures: tables of candidates and curves, and a summary."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from trainyard_trainer.recipes.lung_nodule.candidates import Candidates
from trainyard_trainer.recipes.lung_nodule.froc import Froc

HEADER = ("seriesuid", "coordX", "coordY", "coordZ", "probability", "diameter_mm", "malignancy")
"""LUNA16's submission format, with two columns more."""


def csv_of(uids: Sequence[str], candidates: Sequence[Candidates]) -> str:
    """A row for each candidate, in world millimetres."""
    pairs = zip(uids, candidates, strict=True)
    return _written(HEADER, (row for uid, found in pairs for row in rows_of(uid, found)))


def rows_of(uid: str, candidates: Candidates) -> Iterator[tuple[str, ...]]:
    """In the order of HEADER."""
    for z, y, x, probability, diameter, malignancy in candidates.tolist():
        yield (uid, *map(_number, (x, y, z, probability, diameter, malignancy)))


def froc_table(curve: Froc) -> str:
    """The curve's corners."""
    corners = zip(curve.rates.tolist(), curve.sensitivity.tolist(), strict=True)
    lines = ((_number(rate), _number(found)) for rate, found in corners)
    return _written(("false_positives_per_scan", "sensitivity"), lines)


def summary(
    sizes: Mapping[str, int], facts: Mapping[str, int], metrics: Mapping[str, float]
) -> str:
    """Scans of each split, facts and metrics, a line each."""
    lines = {"scans": ", ".join(f"{count} {split}" for split, count in sizes.items()), **facts}
    written = {name: f"{value:.4f}" for name, value in sorted(metrics.items())}
    return "".join(f"{name}: {value}\n" for name, value in {**lines, **written}.items())


def _written(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return out.getvalue()


def _number(value: float) -> str:
    """Empty where there is none."""
    return "" if math.isnan(value) else f"{value:.6g}"
