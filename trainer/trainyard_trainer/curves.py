"""Draw the curves of a run's metrics.csv as a PNG.

    python -m trainyard_trainer.curves --input metrics.csv --output loss_curves.png

By default all training losses, one value an epoch, beside the metrics of the validation split that
are named with --metric. `trainyard fetch JOB --what metrics` writes the table.
"""

import argparse
import csv
import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.events import encode_png
from trainyard_trainer.pictures import Drawing, Line

LOSSES = ("train_*loss", "val_loss")


def read_curves(file: Path, patterns: Sequence[str]) -> dict[str, Line]:
    """Steps and values of each column whose name matches. Raises ConfigurationError."""
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
    except OSError as error:
        raise ConfigurationError(
            f"--input: cannot read '{file}' ({error.strerror}); write the path of a metrics.csv."
        ) from error
    if rows and "step" not in rows[0]:
        raise ConfigurationError(f"--input: '{file}' has no column 'step'; it is no metrics.csv.")
    names = [name for name in (rows[0] if rows else ()) if _matches(name, patterns)]
    found: dict[str, Line] = {}
    for name in names:
        points = [(float(row["step"]), float(row[name])) for row in rows if row[name]]
        if points:
            found[name] = ([x for x, _ in points], [y for _, y in points])
    return found


def draw_curves(losses: Mapping[str, Line], metrics: Mapping[str, Line]) -> Drawing:
    """Losses above, metrics below where there are any, over steps."""
    shown = [("loss", losses), ("metric", metrics)]
    shown = [(label, lines) for label, lines in shown if lines]

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (label, lines) in zip(axes, shown, strict=True):
            for name, (steps, values) in lines.items():
                axis.plot(steps, values, label=name, marker="." if len(steps) < 30 else None)
            axis.set_ylabel(label)
            axis.grid(alpha=0.3)
            axis.legend(fontsize="small")
        if losses and all(value > 0 for _, values in losses.values() for value in values):
            axes[0].set_yscale("log")
        axes[-1].set_xlabel("step")

    return Drawing(draw=draw, inches=(8.0, 4.0 * len(shown)))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw the curves of a run as a PNG.")
    parser.add_argument("--input", type=Path, required=True, help="metrics.csv")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    parser.add_argument("--metric", action="append", help="column to draw, such as val_psnr")
    options = parser.parse_args(arguments)
    try:
        losses = read_curves(options.input, LOSSES)
        metrics = read_curves(options.input, options.metric or ())
        if not losses and not metrics:
            raise ConfigurationError(f"--input: '{options.input}' holds no losses yet.")
    except ConfigurationError as error:
        parser.exit(2, f"error: {error}\n")
    picture = draw_curves(losses, metrics).render()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_bytes(encode_png(picture))
    print(f"Drew {len(losses) + len(metrics)} curves into {options.output}.")


if __name__ == "__main__":
    main()
