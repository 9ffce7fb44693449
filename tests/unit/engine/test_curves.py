from pathlib import Path

import pytest
from PIL import Image

from trainyard_trainer.curves import LOSSES, main, read_curves

TABLE = """step,epoch,train_loss_step,train_generator_loss,val_psnr
2,0,3.0,,
4,0,2.0,2.5,20.5
6,1,1.5,,
8,1,1.0,1.25,24
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "training_history.csv"
    file.write_text(TABLE)
    return file


def test_losses_are_those_of_whole_epochs(table: Path) -> None:
    assert read_curves(table, LOSSES) == {"train_generator_loss": ([4, 8], [2.5, 1.25])}
    assert read_curves(table, ["val_psnr"]) == {"val_psnr": ([4, 8], [20.5, 24])}


def test_the_command_leaves_a_png(table: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "plots" / "loss_curves.png"
    main(["--input", str(table), "--output", str(picture), "--metric", "val_psnr"])
    assert capsys.readouterr().out == f"Drew 2 curves into {picture}.\n"
    with Image.open(picture) as image:
        assert image.size == (800, 800)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no losses yet."),
        ("a,b\n1,2\n", "has no column 'step'; it is no metrics.csv."),
    ],
)
def test_another_file_is_refused(tmp_path: Path, capsys, text: str, message: str) -> None:
    file = tmp_path / "other.csv"
    file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["--input", str(file), "--output", "unused.png"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: --input: '{file}' {message}\n"
