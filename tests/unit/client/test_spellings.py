from pathlib import Path

import pytest

from trainyard.jobfile import Request, assignments_in, load_job


@pytest.mark.parametrize(
    ("words", "assignments"),
    [
        (["lr=1"], ["lr=1"]),
        (["--lr", "0.01", "--fold=2"], ["lr=0.01", "fold=2"]),
        (["--augment", "--lr", "-1"], ["augment=true", "lr=-1"]),
        (["--augment", "lr=1"], ["augment=true", "lr=1"]),
    ],
)
def test_flags_stand_for_assignments(words: list[str], assignments: list[str]) -> None:
    assert assignments_in(words) == assignments


def test_a_file_of_configuration_alone_makes_a_job_of_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "guide.yaml"
    file.write_text("training: {epochs: 3}\n")
    words = ("--training.epochs", "4")
    loaded = load_job(Request(target="classification", config_file=file, assignments=words))
    assert loaded.manifest["spec"] == {
        "recipe": "classification",
        "config": {"training": {"epochs": 3}},
        "overrides": ["training.epochs=4"],
    }


def test_config_show_comments_every_key(trainyard) -> None:
    shown = trainyard("config", "show", "classification", "training.epochs=3")
    assert shown.code == 0
    assert "  # Passes over the training data.\n  epochs: 3\n" in shown.out
