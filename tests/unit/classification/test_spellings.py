"""The guide's files and command lines as they stand in it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from classification_images import write_image

from trainyard.jobfile import assignments_in
from trainyard_trainer.config import build_config
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.classification.config import Config
from trainyard_trainer.recipes.classification.split import main

FILE = """
data:
  dataset_name: 'my_dataset'  # Used in run directory names
  data_dir: 'data/my_dataset' # Must contain raw/ and splits/
  fold: 0                      # Which fold to use

model:
  num_classes: 3  # Must match number of classes in raw/
"""
TRAINERS = {
    "standard": ("trainer_type: 'standard'\nnum_epochs: 50\nbatch_size: 32", "fp32"),
    "float16": ("trainer_type: 'mixed_precision'\namp_dtype: 'float16'\nbatch_size: 64", "fp16"),
    "bfloat16": ("trainer_type: 'mixed_precision'\namp_dtype: 'bfloat16'", "bf16"),
    "mixed precision by default": ("trainer_type: 'mixed_precision'", "fp16"),
    "accelerate": ("trainer_type: 'accelerate'\ngradient_accumulation_steps: 2", "fp32"),
    "dp": (
        "trainer_type: 'dp'\nnum_epochs: 50\ndp: {noise_multiplier: 1.1, max_grad_norm: 1.0, "
        "target_epsilon: 3.0, target_delta: 1e-5}",
        "fp32",
    ),
}


def test_guides_file_and_flags_are_read_and_flags_beat_the_file() -> None:
    flags = "--fold 2 --num_epochs 20 --batch_size 16 --lr 0.01 --device cpu --num_workers 8"
    config = build_config(Config, [yaml.safe_load(FILE)], assignments_in(flags.split()))
    assert (config.data.fold, config.data.path) == (2, Path("data/my_dataset"))
    training = config.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (20, 16, 0.01)
    assert (training.device, training.num_workers) == ("cpu", 8)


@pytest.mark.parametrize("name", TRAINERS)
def test_guides_trainers_are_read(name: str) -> None:
    text, precision = TRAINERS[name]
    config = build_config(Config, [{"training": yaml.safe_load(text)}])
    assert config.training.precision == precision
    assert config.training.dp.target_delta == 1e-5


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"device": "cuda:1"},
            "spec.config.training.device: is cuda:1; write cuda, and choose the GPU with "
            "CUDA_VISIBLE_DEVICES=1.",
        ),
        (
            {"trainer_type": "dp", "clip_grad_norm": 1.0},
            "spec.config.training: trainer_type dp excludes clip_grad_norm; leave it out; got ",
        ),
        (
            {"trainer_type": "dp", "loss": {"class_weights": "balanced"}},
            "spec.config.training: trainer_type dp excludes loss.class_weights; leave it out; got ",
        ),
        (
            {"trainer_type": "mixed_precision", "precision": "fp32"},
            "spec.config.training: trainer_type mixed_precision needs precision fp16 or bf16, not "
            "fp32; got ",
        ),
    ],
)
def test_contradictions_are_one_sentence(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_config(Config, [{"training": training}])
    assert str(caught.value).startswith(message)


def test_first_gpu_by_number_is_the_gpu() -> None:
    assert build_config(Config, [], ["device=cuda:0"]).training.device == "cuda"


def images(root: Path) -> Path:
    for name in ("ants", "bees"):
        for number in range(20):
            write_image(root / "raw" / name / f"{number:02d}.png", size=8)
    return root / "raw"


def listed(folder: Path) -> dict[str, list[str]]:
    return {file.stem: file.read_text().split() for file in sorted(folder.glob("*.txt"))}


def test_split_command_writes_folds_that_are_a_partition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--raw_data", str(images(tmp_path)), "--folds", "5"])
    lists = listed(tmp_path / "splits")
    assert len(lists) == 11
    assert len(lists["test"]) == 6
    held_out = [path for fold in range(5) for path in lists[f"fold_{fold}_val"]]
    assert sorted([*held_out, *lists["test"]]) == sorted(
        f"{name}/{number:02d}.png" for name in ("ants", "bees") for number in range(20)
    )
    assert capsys.readouterr().out == (
        f"{tmp_path}/splits: 6 for test; train/val by fold: 27/7, 27/7, 27/7, 27/7, 28/6\n"
    )


def test_split_command_takes_ratio_seed_and_output(tmp_path: Path) -> None:
    words = ["--raw_data", str(images(tmp_path)), "--folds", "1", "--ratio", ".5", ".25", ".25"]
    main([*words, "--seed", "42", "--output", str(tmp_path / "here")])
    sizes = {name: len(paths) for name, paths in listed(tmp_path / "here").items()}
    assert sizes == {"fold_0_train": 20, "fold_0_val": 10, "test": 10}


def test_split_command_without_images_says_what_to_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--raw_data", str(tmp_path / "none")])
    assert capsys.readouterr().err == (
        f"error: --raw_data: there is no folder '{tmp_path}/none'; name one of classes.\n"
    )
