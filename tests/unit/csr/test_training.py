from pathlib import Path
from typing import Any

import pytest
import torch
from unit.engine.gang import run_gangs
from unit.engine.tiny import (
    assert_equal_states,
    manifests_of,
    newest,
    result_of,
    storage_of,
    tiny_rank,
)

from trainyard_operator.contract import ExitCode
from trainyard_trainer.recipes.csr.baseline import linear_auc, linear_scores
from trainyard_trainer.recipes.csr.config import XrayDataConfig
from trainyard_trainer.recipes.csr.data import XraySamples, find_xrays
from trainyard_trainer.recipes.csr.metrics import mean_auc
from trainyard_trainer.recipes.csr.model import CSR
from trainyard_trainer.recipes.csr.predict import load_network, main
from trainyard_trainer.recipes.csr.synth import write_chests

pytestmark = pytest.mark.slow
EPOCHS = {"epochs_stage1": 2, "epochs_stage2": 5, "epochs_stage3": 2}


def phase(data: Path, place: str, **more: Any) -> dict[str, Any]:
    config = {
        "training": EPOCHS | {"batch_size_per_process": None, "learning_rate": 0.01},
        "data": {"path": str(data), "image_size": 48, "validation_share": 0.2},
        "model": {"backbone": "small", "projection_size": 16, "freeze_batch_norm": True},
        "linear_baseline": True,
    }
    return {
        "nodes": 2,
        "place": place,
        "module": "unit.recipes.mortal",
        "recipe": "csr-mortal",
        "checkpoint": {"everySteps": 2, "keepLast": 99, "async": False},
        "config": config | more.pop("config", {}),
    } | more


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks, and the same killed in each stage."""
    place = tmp_path_factory.mktemp("csr")
    data = place / "data"
    write_chests(data, train=50, test=13, size=64)
    kills = [
        phase(data, "killed", config={"kill_at": step}, attempt=number)
        for number, step in enumerate((7, 14, 40), start=1)
    ]
    last = phase(data, "killed", attempt=len(kills) + 1)
    codes, log = run_gangs(place, [phase(data, "two"), *kills, last])
    (place / "log.txt").write_text(log)
    assert codes == [[0, 0], *[[ExitCode.PEER_LOST, -9]] * len(kills), [0, 0]], log
    return place


def test_a_run_killed_in_every_stage_ends_bit_for_bit_like_one_that_was_not(trained) -> None:
    whole, killed = tiny_rank(trained / "two"), tiny_rank(trained / "killed")
    newest_of = {manifest.attempt: manifest.stage for manifest in manifests_of(killed)[::-1]}
    assert newest_of == {1: "concepts", 2: "prototypes", 3: "task", 4: "task"}
    assert_equal_states(newest(whole).state, newest(killed).state)
    assert result_of(whole)["metrics"] == result_of(killed)["metrics"]


def test_the_guides_files_are_left_and_load_as_the_guide_says(trained) -> None:
    storage = storage_of(tiny_rank(trained / "two"))
    names = ["best_model_stage1", "best_model_stage3", "final_model", "model_stage2_epoch5"]
    assert sorted(entry.key for entry in storage.list("models/")) == [
        f"models/{name}.pth" for name in names
    ]
    file = trained / "best.pth"
    file.write_bytes(storage.read("models/best_model_stage3.pth"))
    model = CSR(22, 6, 5, backbone="small", image_size=48, projection_size=16)
    model.load_state_dict(torch.load(file, weights_only=True))


def test_the_console_speaks_the_guides_words(trained) -> None:
    log = (trained / "log.txt").read_text()
    for words in (
        "--- START STAGE 1: Concept Learning ---",
        "--- START STAGE 3: Task Learning ---",
        "Pos weights range: ",
        "Epoch 1: Train Loss ",
        "Saved best Stage 1 model (AUC: ",
    ):
        assert words in log


def test_new_images_are_diagnosed_and_corrected(trained, capsys) -> None:
    storage = storage_of(tiny_rank(trained / "two"))
    file = trained / "final.pth"
    file.write_bytes(storage.read("models/final_model.pth"))
    assert load_network(file, 48).prototypes.shape == (22, 5, 16)
    labels = trained / "data" / "annotations" / "image_labels_train.csv"
    image = next((trained / "data" / "test").iterdir())
    common = [str(file), str(image), "--image-size", "48", "--labels", str(labels)]
    assert main(common) == 0
    assert main([*common, "--reject", "Cardiomegaly", "--positive", "0,0,0.5,0.5"]) == 0
    plain, corrected = capsys.readouterr().out.splitlines()
    assert '"Tuberculosis": ' in plain
    assert plain != corrected
    assert main([*common, "--reject", "Cardiomegali"]) == 2
    assert "did you mean 'Cardiomegaly'" in capsys.readouterr().err


def test_a_run_reports_the_linear_model_beside_its_own_score(trained) -> None:
    data = XrayDataConfig(validation_share=0.2)
    splits = find_xrays(trained / "data", data, seed=42).splits
    train, test = (XraySamples(splits[name], 48, 0) for name in ("train", "test"))
    found = result_of(tiny_rank(trained / "two"))["metrics"]
    assert found["test_baseline_auc"] == mean_auc(linear_scores(train, test), test.tasks)
    assert "val_baseline_auc" not in found
    assert {"test_auc", "test_concept_auc", "test_loss"} <= found.keys()
    assert {"test_pointing", "test_prototype_pointing"} <= found.keys()
    assert 0 < found["test_pointing_chance"] < 0.2


def test_the_linear_model_beats_guessing_on_the_stand_in(trained) -> None:
    assert 0.4 < linear_auc(trained / "data") <= 1
