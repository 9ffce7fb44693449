"""Pictures that a recipe shows after an evaluation: what they hold, and how they are drawn.

`Recipe.pictures` returns them by name; they are drawn beside training, by the thread that sends
curves, and go to TensorBoard, to `pictures/<split>/<name>.png` and into the run's report. Grids and
curves are drawn with Pillow; matplotlib is imported only for a `Drawing`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
"""(H, W, 3)."""
Line = tuple[Sequence[float], Sequence[float]]
"""x and y of its points."""

_GAP = 4
_HEADER = 16
_WIDTH, _HEIGHT = 640, 420
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 34, 16, 46
_TICKS = 5
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")


@dataclass(frozen=True, kw_only=True)
class Image:
    """One picture as it is."""

    pixels: Any
    """(H, W), (H, W, 3) or (3, H, W); uint8, or float in 0..1."""

    def render(self) -> Pixels:
        """In colour."""
        return as_pixels(self.pixels)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rows of images of one size, such as inputs, outputs, targets and errors of some samples."""

    rows: Mapping[str, Sequence[Any]]
    """By what the row shows; images as in `Image`."""
    captions: Sequence[str] = ()
    """One above each column."""

    def render(self) -> Pixels:
        """Each row below its name."""
        from PIL import Image as Pil
        from PIL import ImageDraw

        rows = {name: [as_pixels(one) for one in images] for name, images in self.rows.items()}
        height, width = next(iter(rows.values()))[0].shape[:2]
        columns = max(len(images) for images in rows.values())
        across, down = width + _GAP, height + _GAP + _HEADER
        size = (max(columns * across, 160), _HEADER + len(rows) * down)
        sheet = Pil.new("RGB", size, "white")
        draw = ImageDraw.Draw(sheet)
        for column, caption in enumerate(self.captions):
            draw.text((column * across, 2), caption[: max(4, width // 6)], fill="black")
        for row, (name, images) in enumerate(rows.items()):
            top = _HEADER + row * down
            draw.text((0, top + 2), name, fill="black")
            for column, image in enumerate(images):
                sheet.paste(Pil.fromarray(image), (column * across, top + _HEADER))
        return np.array(sheet)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Lines over axes, such as ROC or FROC curves."""

    lines: Mapping[str, Line]
    """By their names in the legend."""
    x_label: str
    y_label: str
    title: str = ""
    diagonal: bool = False
    """Whether to draw y = x beside them, as what chance gives."""

    def render(self) -> Pixels:
        """Drawn at twice the size and made smaller, which smooths the lines."""
        from PIL import Image as Pil

        lines = {name: _finite(line) for name, line in self.lines.items()}
        axes = _Axes(lines, diagonal=self.diagonal)
        sheet = Pil.new("RGB", (2 * _WIDTH, 2 * _HEIGHT), "white")
        axes.draw(sheet, self, lines)
        return np.array(sheet.resize((_WIDTH, _HEIGHT), Pil.Resampling.BOX))


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Anything else, with matplotlib."""

    draw: Callable[[Any], None]
    """Is given a matplotlib Figure."""
    inches: tuple[float, float] = (6.4, 4.8)

    def render(self) -> Pixels:
        """At 100 dots an inch. Raises ModuleNotFoundError without matplotlib."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.inches, dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        self.draw(figure)
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3]


Picture = Image | Grid | Curves | Drawing


def as_pixels(image: Any) -> Pixels:
    """(H, W), (1, H, W), (3, H, W) or (H, W, 3), uint8 or float in 0..1, in colour."""
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype != np.uint8:
        array = (np.nan_to_num(np.clip(array, 0, 1)) * 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


class _Axes:
    """Where values lie on a sheet of twice the size."""

    def __init__(self, lines: Mapping[str, Line], *, diagonal: bool) -> None:
        self._x = _range([x for xs, _ in lines.values() for x in xs])
        self._y = _range([y for _, ys in lines.values() for y in ys])
        self._diagonal = diagonal

    def _place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return (
            2 * (_LEFT + across * (_WIDTH - _LEFT - _RIGHT)),
            2 * (_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)),
        )

    def draw(self, sheet: Any, curves: Curves, lines: Mapping[str, Line]) -> None:
        from PIL import ImageDraw, ImageFont

        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=24)
        for x, y in zip(np.linspace(*self._x, _TICKS), np.linspace(*self._y, _TICKS), strict=True):
            left, bottom = self._place(x, self._y[0])
            draw.line([(left, bottom), self._place(x, self._y[1])], fill="#dddddd", width=2)
            draw.text((left, bottom + 8), f"{x:.3g}", fill="black", font=font, anchor="ma")
            left, height = self._place(self._x[0], y)
            draw.line([(left, height), self._place(self._x[1], y)], fill="#dddddd", width=2)
            draw.text((left - 10, height), f"{y:.3g}", fill="black", font=font, anchor="rm")
        if self._diagonal:
            low = max(self._x[0], self._y[0])
            high = min(self._x[1], self._y[1])
            draw.line([self._place(low, low), self._place(high, high)], fill="#999999", width=3)
        for number, (name, (xs, ys)) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            draw.line([self._place(*point) for point in zip(xs, ys, strict=True)], colour, 4)
            row = 2 * (_TOP + 8) + 30 * number
            draw.text((2 * (_WIDTH - _RIGHT) - 8, row), name, fill=colour, font=font, anchor="ra")
        draw.text((_WIDTH, 12), curves.title, fill="black", font=font, anchor="ma")
        draw.text((_WIDTH, 2 * _HEIGHT - 32), curves.x_label, fill="black", font=font, anchor="ma")
        draw.text((12, 12), curves.y_label, fill="black", font=font)


def _finite(line: Line) -> Line:
    points = [
        (float(x), float(y))
        for x, y in zip(*line, strict=True)
        if np.isfinite(x) and np.isfinite(y)
    ]
    return [x for x, _ in points], [y for _, y in points]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
