"""predict, evaluate and export on what a run stored, and on what was fetched of it."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from recipe_cases import BY_NAME

from trainyard_operator.layout import checkpoint_prefix, run_prefix
from trainyard_trainer.card import CARD_FILE, Card
from trainyard_trainer.config import build_config
from trainyard_trainer.manifest import Manifest, Part
from trainyard_trainer.recipe import Site
from trainyard_trainer.registry import load_recipe
from trainyard_trainer.storage import Storage, open_storage

CASE = BY_NAME["classification"]


@pytest.fixture
def run(place: Path) -> Storage:
    """A run of classification, and its data set in data/."""
    CASE.write(place / "data")
    site = Site(data_path=place / "data", scratch=place, device=torch.device("cpu"))
    cls = load_recipe(CASE.recipe)
    recipe = cls(build_config(cls.config_class, [CASE.config]), site)
    torch.save(recipe.build_modules()["model"].state_dict(), place / "drawn.pt")
    storage = open_storage((place / "runs").as_uri()).child(run_prefix("default", "shapes", "u1"))
    card = Card(
        recipe=CASE.recipe,
        config=recipe.config.model_dump(mode="json"),
        labels=recipe.labels(),
        data_path=place / "data",
    )
    storage.write("run.json", b"{}")
    storage.write(CARD_FILE, card.to_json().encode())
    save(storage, (place / "drawn.pt").read_bytes())
    return storage


def save(storage: Storage, weights: bytes) -> None:
    prefix = checkpoint_prefix(7, 1)
    storage.write(f"{prefix}/model.pt", weights)
    digest = hashlib.sha256(weights).hexdigest()
    manifest = Manifest(
        job="shapes",
        namespace="default",
        uid="u1",
        attempt=1,
        step=7,
        epoch=1,
        world_size=1,
        created_at="2026-03-01T12:00:00Z",
        metrics={"val_accuracy": 0.5},
        best={"metric": "val_accuracy", "mode": "max"},
        parts=(Part(key=f"{prefix}/model.pt", size_bytes=len(weights), sha256=digest, rank=0),),
    )
    storage.write(manifest.key, manifest.to_json())


def test_a_job_its_uri_and_its_fetched_checkpoint_say_the_same(trainyard, run: Storage) -> None:
    assert trainyard("fetch", "shapes").out == "shapes/step-7\n"
    file = "data/raw/disc/0000.png"
    sources = ("shapes", run.uri, "shapes/step-7", "shapes/step-7/model.pt")
    ran = [trainyard("predict", source, file, "tta=2") for source in sources]
    header, row = ran[0].out.splitlines()
    assert header == "file,predicted,disc,frame,triangle"
    assert row.startswith(f"{file},")
    assert [(one.code, one.out, one.err) for one in ran] == [(0, ran[0].out, "")] * 4


def test_the_table_goes_into_a_folder_or_to_programs(trainyard, run: Storage, place: Path) -> None:
    files = ["data/raw/disc/0000.png", "data/raw/frame/0001.png"]
    ran = trainyard("predict", "shapes", *files, "-d", "out")
    assert (ran.code, ran.out) == (0, "out/predictions.csv\n")
    assert (place / "out" / "predictions.csv").read_text().count("\n") == 3
    ran = trainyard("predict", "shapes", *files, "-o", "json")
    found = json.loads(ran.out)["predictions"]
    assert [row["file"] for row in found] == files
    assert list(found[0]) == ["file", "predicted", "disc", "frame", "triangle"]


def test_changed_weights_are_refused_with_their_file(trainyard, run: Storage, place: Path) -> None:
    trainyard("fetch", "shapes")
    file = place / "shapes" / "step-7" / "model.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    ran = trainyard("predict", "shapes/step-7", "data/raw/disc/0000.png")
    assert (ran.code, ran.err) == (
        12,
        "error: 'shapes/step-7/model.pt' differs from its SHA-256\n"
        "help: trainyard fetch JOB, into a new folder\n",
    )


def test_changed_weights_in_storage_are_refused_too(trainyard, run: Storage) -> None:
    run.write(f"{checkpoint_prefix(7, 1)}/model.pt", b"other")
    ran = trainyard("predict", "shapes", "data/raw/disc/0000.png")
    assert ran.code == 12
    assert "model.pt has 5 of its " in ran.err


def test_weights_without_their_card_are_refused(trainyard, run: Storage, place: Path) -> None:
    trainyard("fetch", "shapes")
    (place / "shapes" / "step-7" / CARD_FILE).unlink()
    ran = trainyard("predict", "shapes/step-7", "data/raw/disc/0000.png")
    assert (ran.code, ran.err) == (
        3,
        "error: there is no model.json beside 'shapes/step-7/model.pt'\n"
        "help: trainyard fetch JOB, into a new folder\n",
    )


def test_a_job_is_evaluated_where_its_data_lay(trainyard, run: Storage, place: Path) -> None:
    ran = trainyard("evaluate", "shapes", "-o", "json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found.keys() == {"test_loss", "test_accuracy", "test_macro_f1"}
    text = json.loads(run.read(CARD_FILE))
    (place / "config.yaml").write_text(json.dumps(text["config"]))
    words = ("--checkpoint", "drawn.pt", "--config", "config.yaml", "--dataset", "data")
    ran = trainyard("evaluate", "classification", *words, "-o", "json")
    assert (ran.code, json.loads(ran.out)) == (0, found)


def test_a_data_set_of_other_classes_is_refused(trainyard, run: Storage, place: Path) -> None:
    CASE.write(place / "other")
    for path in sorted((place / "other").rglob("disc*")):
        path.rename(path.with_name("blot"))
    for path in (place / "other" / "splits").iterdir():
        path.write_text(path.read_text().replace("disc/", "blot/"))
    ran = trainyard("evaluate", "shapes", "--dataset", "other")
    assert ran.err == (
        "error: --dataset: its classes are blot, frame, triangle, and the weights are for disc, "
        "frame, triangle; name the run's data set or one of the same classes.\n"
    )


def test_a_recipe_alone_has_no_weights_to_evaluate(trainyard, place: Path) -> None:
    ran = trainyard("evaluate", "classification")
    assert (ran.code, ran.err) == (
        3,
        "error: there is no run 'classification', and recipe 'classification' alone has no "
        "weights\n"
        "help: trainyard evaluate classification --checkpoint FILE --config FILE\n",
    )


def test_no_file_is_a_mistake_of_the_command_line(trainyard, run: Storage) -> None:
    ran = trainyard("predict", "shapes", "tta=2")
    assert (ran.code, ran.err) == (
        2,
        "error: names no file to look at\nhelp: trainyard predict --help\n",
    )
    ran = trainyard("predict", "shapes", "data/raw/disc/0000.png", "tta=9")
    assert ran.err == "error: options.tta: must be at least 1 and at most 8; got 9.\n"


@pytest.mark.slow
def test_export_tells_input_and_difference(trainyard, run: Storage, place: Path) -> None:
    ran = trainyard("export", "shapes", "-d", "out")
    assert ran.code == 0, ran.err
    header, row = (line.split() for line in ran.out.splitlines())
    assert header == ["FILE", "INPUT", "DIFFERENCE"]
    assert row[:2] == ["out/model.pt2", "anyx3x24x24"]
    assert (place / "out" / "model.pt2").is_file()
