from pathlib import Path

import pytest

from trainyard.errors import UsageError
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


def test_synth_writes_marked_data_in_the_recipes_layout(trainyard, tmp_path: Path) -> None:
    ran = trainyard("synth", "classification", "--out", "shapes", "--seed", "3")
    assert ran.code == 0
    assert '"seed": 3' in Path("shapes/SYNTHETIC.json").read_text()
    assert Path("shapes/splits/fold_0_train.txt").is_file()


def test_synth_of_an_unknown_recipe_names_the_nearest(trainyard) -> None:
    ran = trainyard("synth", "clasification", "--out", "x")
    assert (ran.code, ran.err) == (
        5,
        "error: spec.recipe: unknown recipe 'clasification'; did you mean 'classification'?\n",
    )


def test_a_guides_flag_may_be_called_like_a_field_of_the_job() -> None:
    found = load_job(Request(target="mar-gan", assignments=("--checkpoint", "best.pth")))
    assert found.manifest["spec"]["overrides"] == ["checkpoint=best.pth"]
    with pytest.raises(UsageError, match="is a field of the job, not of its recipe"):
        load_job(Request(target="mar-gan", assignments=("nodes=2",)))
