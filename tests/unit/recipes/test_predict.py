"""Every recipe's trained model on a new file, without the data set that it was trained on."""

import csv
import io
from pathlib import Path

import pytest
from PIL import Image
from recipe_cases import BY_NAME, Case

from trainyard_trainer.card import Card
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.judged_file import judge_file
from trainyard_trainer.predictions import Prediction, build_table
from trainyard_trainer.trained import open_trained


def look(card: Card, weights: Path, file: Path, *options: str) -> Prediction:
    with open_trained(card.model_copy(update={"data_path": None}), weights) as trained:
        (found,) = trained.predict([file], options)
    return found


def test_a_new_file_is_looked_at_without_the_data_set(
    case: Case, data: Path, card: Card, weights: Path, tmp_path: Path
) -> None:
    found = look(card, weights, case.new_file(data, tmp_path))
    assert found.rows
    assert {len(row) for row in found.rows} == {len(found.columns)}
    header, *rows = csv.reader(io.StringIO(build_table([found])))
    assert header == list(found.columns)
    assert len(rows) == len(found.rows)


def test_a_file_that_is_none_is_told_of_in_one_sentence_with_its_name(
    case: Case, card: Card, weights: Path, data: Path, tmp_path: Path
) -> None:
    broken = tmp_path / f"broken{case.new_file(data, tmp_path).suffix}"
    with pytest.raises(ConfigurationError) as caught:
        look(card, weights, broken)
    assert str(caught.value) == f"there is no file '{broken}'; correct the name."
    broken.write_bytes(b"nothing")
    with pytest.raises(ConfigurationError) as caught:
        look(card, weights, broken)
    assert f"'{broken}'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "skip" not in str(caught.value)


def test_an_unknown_option_is_refused_before_anything_is_read(
    case: Case, card: Card, weights: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"options: unknown key 'flipped'; "):
        look(card, weights, case.new_file(data, tmp_path), "flipped=3")


def test_weights_are_judged_as_a_run_judges_its_best(
    case: Case, card: Card, weights: Path, data: Path
) -> None:
    found = judge_file(card, weights=weights, data_path=None)
    assert found == judge_file(card, weights=weights, data_path=data)
    assert all(name.startswith("test_") for name in found)
    assert (
        set(found)
        >= {
            "classification": {"test_loss", "test_accuracy", "test_macro_f1"},
            "skin-lesion": {"test_loss", "test_auc"},
            "mar-gan": {"test_psnr", "test_ssim"},
            "lung-nodule": {"test_loss", "test_froc_score"},
            "csr": {"test_loss", "test_auc", "test_concept_auc"},
        }[case.recipe]
    )


@pytest.mark.parametrize("case", [BY_NAME["classification"], BY_NAME["skin-lesion"]], indirect=True)
def test_tta_averages_the_probabilities_of_mirrored_images(
    case: Case, card: Card, weights: Path, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.png"
    Image.open(case.new_file(data, tmp_path)).resize((24, 24)).save(file)
    mirrored = tmp_path / "mirrored.png"
    Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    plain, other = (look(card, weights, one).rows[0][2:] for one in (file, mirrored))
    both = look(card, weights, file, "tta=2").rows[0][2:]
    assert both == pytest.approx([(a + b) / 2 for a, b in zip(plain, other, strict=True)])
    assert sum(both) == pytest.approx(1)
