import subprocess
import sys

import numpy as np
import pytest
import torch

from trainyard_trainer.pictures import Curves, Drawing, Grid, Image, as_pixels


@pytest.mark.parametrize(
    "image",
    [
        np.full((2, 5), 0.2),
        np.full((2, 5, 3), 51, dtype=np.uint8),
        torch.full((3, 2, 5), 0.2),
        torch.full((1, 2, 5), 51, dtype=torch.uint8),
    ],
)
def test_every_layout_becomes_rows_of_colours(image: object) -> None:
    pixels = Image(pixels=image).render()
    assert (pixels.shape, pixels.dtype) == ((2, 5, 3), np.uint8)
    assert np.unique(pixels).tolist() == [51]


def test_values_beyond_the_range_and_nan_are_shown_as_its_ends() -> None:
    assert as_pixels(np.array([[-1.0, 2.0, np.nan]]))[0, :, 0].tolist() == [0, 255, 0]


def test_grid_puts_each_row_below_its_name() -> None:
    red = np.zeros((40, 60, 3), dtype=np.uint8) + np.array([255, 0, 0], dtype=np.uint8)
    grid = Grid(rows={"input": [red, red, red], "target": [255 - red] * 2}, captions=["a", "b"])
    sheet = grid.render()
    assert sheet.shape == (16 + 2 * 60, 3 * 64, 3)
    assert sheet[16 + 16 + 20, 30].tolist() == [255, 0, 0]
    assert sheet[16 + 60 + 16 + 20, 30].tolist() == [0, 255, 255]
    assert sheet[16 + 60 + 16 + 20, 2 * 64 + 30].tolist() == [255, 255, 255]


def test_curves_leave_out_what_is_not_finite_and_need_no_matplotlib() -> None:
    lines = {"auc 0.9": ([0, 0.5, 1], [0, float("nan"), 1]), "none": ([], [])}
    sheet = Curves(lines=lines, x_label="x", y_label="y", title="ROC", diagonal=True).render()
    assert sheet.shape == (420, 640, 3)
    # Half way along the line: blue on the grey diagonal.
    middle = sheet[34 + (420 - 34 - 46) // 2, 64 + (640 - 64 - 16) // 2].astype(int)
    assert middle[2] > middle[0] + 50


@pytest.mark.slow
def test_drawing_is_given_a_figure() -> None:
    pixels = Drawing(draw=lambda figure: figure.subplots().plot([1, 2]), inches=(2, 1)).render()
    assert pixels.shape == (100, 200, 3)


@pytest.mark.slow
def test_matplotlib_stays_out_until_something_is_drawn_with_it() -> None:
    code = (
        "import sys; from trainyard_trainer import worker, pictures; import numpy as np; "
        "pictures.Grid(rows={'a': [np.zeros((4, 4))]}).render(); "
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
