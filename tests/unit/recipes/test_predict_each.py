"""What only one recipe's predictions have."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nodule_scans import GRID, write_scan
from PIL import Image
from recipe_cases import BY_NAME, new_slice

from trainyard_trainer.config import build_config
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.classification.views import views_of
from trainyard_trainer.recipes.csr.config import Config as CsrConfig
from trainyard_trainer.recipes.csr.model import CSR
from trainyard_trainer.recipes.csr.predict import PredictOptions, predict_file
from trainyard_trainer.recipes.lung_nodule.config import Config as NoduleConfig
from trainyard_trainer.recipes.lung_nodule.predict import PredictOptions as ScanOptions
from trainyard_trainer.recipes.lung_nodule.predict import predict_scan
from trainyard_trainer.recipes.mar_gan.predict import PredictOptions as SliceOptions
from trainyard_trainer.recipes.mar_gan.predict import correct_file


def test_eight_views_are_the_symmetries_of_a_square() -> None:
    image = torch.arange(4).reshape(1, 1, 2, 2)
    found = {tuple(view.flatten().tolist()) for view in views_of(image, 8)}
    assert len(found) == 8
    assert views_of(image, 1)[0] is image


class Doubtful(torch.nn.Module):
    """Leaves what is bright a little darker."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.where(image > 0.9, image * self.weight, image)


def test_a_corrected_slice_is_in_the_units_of_its_file(tmp_path: Path) -> None:
    file = new_slice(tmp_path, tmp_path)
    with torch.no_grad():
        found = correct_file(Doubtful(), file, SliceOptions(), threshold=0.6)
    assert found.columns == ["file", "corrected", "picture", "unit", "mean_change", "metal_pixels"]
    (row,) = found.rows
    assert row[:4] == [str(file), "new.npy", "new.png", "HU"]
    (tmp_path / "out.npy").write_bytes(found.files["new.npy"])
    before, after = np.load(file), np.load(tmp_path / "out.npy")
    is_metal = before > 1850
    assert row[5] == (before > 1400).sum()
    np.testing.assert_allclose(after[is_metal], 1250, atol=0.1)
    np.testing.assert_allclose(after[~is_metal], before[~is_metal], atol=0.1)
    (tmp_path / "out.png").write_bytes(found.files["new.png"])
    assert Image.open(tmp_path / "out.png").size == (56, 40)


def test_another_kind_of_file_is_no_slice(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    with pytest.raises(ConfigurationError) as caught:
        correct_file(Doubtful(), file, SliceOptions(), threshold=0.6)
    assert str(caught.value) == (
        f"'{file}' is no CT image that can be read here; give an .npy in HU, or an .h5 of "
        "SynDeepLesion."
    )


class Brightness(torch.nn.Module):
    """A heatmap that is high where the scan is dense."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(40.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        smooth = torch.nn.functional.avg_pool3d(image, 3, stride=1, padding=1)
        return (smooth - 0.6) * self.weight


@pytest.mark.parametrize("tta", [False, True])
def test_a_dense_ball_is_found_where_it_lies_in_the_world(tmp_path: Path, tta: bool) -> None:
    config = build_config(NoduleConfig, [BY_NAME["lung-nodule"].config])
    file = write_scan(tmp_path, "new", [(6, 8, 8)])
    with torch.no_grad():
        found = predict_scan(config, (8, 8, 8), Brightness(), file, ScanOptions(tta=tta))
    uid, x, y, z, probability, *_ = found.rows[0]
    expected = GRID.to_world(np.array([6.0, 8.0, 8.0]))[::-1]
    assert uid == "new"
    assert np.linalg.norm(np.array([float(x), float(y), float(z)]) - expected) <= 3
    assert float(probability) > 0.5


def csr_row(tmp_path: Path, options: PredictOptions) -> tuple[list[float], dict[str, bytes]]:
    torch.manual_seed(0)
    network = CSR(3, 2, 2, backbone="small", image_size=48, projection_size=8).eval()
    config = build_config(CsrConfig, [BY_NAME["csr"].config])
    file = tmp_path / "x.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (60, 50), dtype=np.uint8)).save(file)
    labels = {"concepts": ["Mass", "Edema/Fluid", "Nodule"], "tasks": ["COPD", "Tumour"]}
    found = predict_file(network, file, options, labels, config)
    expected = ["file", "COPD", "Tumour", "concept: Mass", "concept: Edema/Fluid"]
    assert list(found.columns) == [*expected, "concept: Nodule"]
    return [float(value) for value in found.rows[0][1:]], dict(found.files)


def test_a_persons_corrections_change_the_diagnoses_and_not_the_concepts(tmp_path: Path) -> None:
    plain, files = csr_row(tmp_path, PredictOptions())
    assert files == {}
    told = PredictOptions(reject=("Mass",), negative=((0.0, 0.0, 0.5, 1.0),), maps=True)
    corrected, files = csr_row(tmp_path, told)
    assert corrected[:2] != plain[:2]
    assert corrected[2:] == plain[2:]
    assert list(files) == ["x-Mass.png", "x-Edema-Fluid.png", "x-Nodule.png"]


def test_a_concept_that_is_unknown_or_a_box_outside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no concept 'Mas'; did you mean 'Mass'"):
        csr_row(tmp_path, PredictOptions(reject=("Mas",)))
    with pytest.raises(ConfigurationError, match=r"box 0.0,0.0,2.0,1.0: is not left,top,right,"):
        csr_row(tmp_path, PredictOptions(positive=((0.0, 0.0, 2.0, 1.0),)))
