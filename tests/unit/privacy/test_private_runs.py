"""Whole private runs: what is spent is what Opacus's accountant says, through kills and resumes."""

from pathlib import Path
from typing import Any

import pytest
from classification_images import write_folders
from unit.engine.gang import run_gangs
from unit.engine.tiny import assert_equal_states, newest, result_of, tiny_rank

from trainyard_operator.contract import ExitCode
from trainyard_trainer.privacy import epsilon

pytestmark = pytest.mark.slow
pytest.importorskip("opacus")
CONFIG: dict[str, Any] = {
    "training": {
        "trainer_type": "dp",
        "epochs": 3,
        "batch_size": 6,
        "dp": {"noise_multiplier": 1.5, "target_epsilon": 20.0, "noise_seed": 7},
    },
    "data": {"image_size": 16},
}


def phase(data: Path, place: str, nodes: int, *words: str, **more: Any) -> dict[str, Any]:
    return {
        "place": place,
        "nodes": nodes,
        "recipe": "classification-mortal",
        "module": "unit.recipes.mortal",
        "config": CONFIG,
        "overrides": list(words),
        "dataset_path": str(data),
        "checkpoint": {"everySteps": 2, "keepLast": 99, "async": False},
    } | more


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("images"), images=12)


def test_private_run_goes_on_to_the_bit_and_spends_what_the_accountant_says(
    tmp_path: Path, images: Path
) -> None:
    codes, log = run_gangs(
        tmp_path,
        [
            phase(images, "whole", 2),
            phase(images, "killed", 2, "kill_at=6"),
            phase(images, "killed", 2, attempt=2),
        ],
    )
    assert codes == [[0, 0], [ExitCode.PEER_LOST, -9], [0, 0]], log
    whole, killed = (newest(tiny_rank(tmp_path / name)) for name in ("whole", "killed"))
    assert_equal_states(whole.state, killed.state)
    history = killed.state["recipe"]["privacy"]["history"]
    assert history == [[1.5, 0.25, 12]]
    spent = epsilon([(1.5, 0.25, 12)], 1e-5)
    result = result_of(tiny_rank(tmp_path / "killed"))
    assert result["metrics"]["val_epsilon"] == pytest.approx(spent)
    assert f"epsilon {spent:.3f} of 20 spent" in result["notes"]["differential privacy"]


def test_two_private_ranks_learn_what_one_learns(tmp_path: Path, images: Path) -> None:
    codes, log = run_gangs(tmp_path, [phase(images, "one", 1), phase(images, "two", 2)])
    assert codes == [[0], [0, 0]], log
    one, two = (newest(tiny_rank(tmp_path / name)).state["model"] for name in ("one", "two"))
    for name, weight in one.items():
        assert weight.allclose(two[name], rtol=1e-4, atol=1e-5), name


def test_budget_out_of_reach_ends_the_job_before_a_step(tmp_path: Path, images: Path) -> None:
    word = "training.dp.target_epsilon=1.0"
    codes, log = run_gangs(tmp_path, [phase(images, "a", 1, word)])
    assert codes == [[ExitCode.CONFIGURATION]], log
    assert "more than target_epsilon 1; write noise_multiplier: " in log
