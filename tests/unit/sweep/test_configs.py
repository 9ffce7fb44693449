"""Every sweep of configs/sweeps is valid, down to each trial's configuration."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from trainyard.jobfile import Request
from trainyard.sweepfile import load_sweep
from trainyard_operator.defaults import Defaults
from trainyard_operator.sweep.desired import build_trial
from trainyard_operator.sweep.search import first_trials, propose, trials_in_all
from trainyard_trainer.config import build_config
from trainyard_trainer.recipes.mar_gan.config import Config
from trainyard_trainer.recipes.mar_gan.variants import ABLATION, STEPS

FOLDER = Path(__file__).parents[3] / "configs" / "sweeps"
TRIALS = {
    "classification-search": 9,
    "digits-asha": 20,
    "digits-folds": 5,
    "mar-gan-ablation": 16,
    "mar-gan-steps": 7,
    "skin-lesion-guide": 20,
    "skin-lesion-random": 20,
    "skin-lesion-steps": 3,
}


def test_the_table_names_every_file() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(TRIALS)


@pytest.mark.parametrize("name", sorted(set(TRIALS) - {"skin-lesion-guide"}))
def test_a_sweep_is_accepted_with_all_its_trials(name: str) -> None:
    found = load_sweep(Request(target=str(FOLDER / f"{name}.yaml")))
    assert trials_in_all(found.sweep.spec) == TRIALS[name]


def test_the_guides_file_says_the_same_as_the_sweep_made_of_it() -> None:
    job = Request(target="skin-lesion", assignments=("model=efficientnet",))
    guide = load_sweep(job, FOLDER / "skin-lesion-guide.yaml").sweep.spec
    own = load_sweep(Request(target=str(FOLDER / "skin-lesion-random.yaml"))).sweep.spec
    fields = ("method", "parameters", "objective", "max_trials", "seed")
    assert all(getattr(guide, name) == getattr(own, name) for name in fields)


@pytest.mark.parametrize(
    ("name", "variants"),
    [("mar-gan-ablation", {"full": {}, **ABLATION}), ("mar-gan-steps", STEPS)],
)
def test_a_study_has_every_variant_of_the_guide(name: str, variants: dict[str, Any]) -> None:
    manifest = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    told = {one["name"]: one.get("overrides", {}) for one in manifest["spec"]["trials"]}
    assert told == variants


def configs_of(name: str) -> dict[str, Config]:
    """What each trial is trained with."""
    sweep = load_sweep(Request(target=str(FOLDER / f"{name}.yaml"))).sweep
    trials = {
        one.name: build_trial(sweep, one, Defaults())["spec"]
        for one in first_trials(sweep.spec, 99)
    }
    return {
        name: build_config(Config, [spec["config"]], spec.get("overrides", ()))
        for name, spec in trials.items()
    }


def test_each_variant_changes_the_job_that_is_trained() -> None:
    configs = configs_of("mar-gan-ablation")
    full = configs.pop("full")
    # Hinge loss is the default.
    assert [name for name, config in configs.items() if config == full] == ["A7"]


def test_each_step_adds_a_part_with_the_jobs_own_weight() -> None:
    configs = configs_of("mar-gan-steps")
    parts = {
        name: {part: weight for part, weight in config.training.loss_weights if weight}
        for name, config in configs.items()
    }
    full = parts["full"]
    assert full["adversarial"] == 0.01  # The template's, and not the guide's 0.1.
    assert list(parts.values()) == [
        {"mse": 1.0},
        *[{"adversarial": full["adversarial"], "mse": 1.0}] * 2,
        {name: full[name] for name in ("adversarial", "feature_matching")} | {"mse": 1.0},
        {name: full[name] for name in ("adversarial", "feature_matching", "reconstruction")},
        {name: full[name] for name in full if name not in ("physics", "metal_consistency")},
        full,
    ]
    scales = [config.model.discriminator.num_scales for config in configs.values()]
    assert scales == [1, 1, 2, 2, 2, 2, 2]


def test_each_step_waits_for_the_one_before() -> None:
    spec = load_sweep(Request(target=str(FOLDER / "skin-lesion-steps.yaml"))).sweep.spec
    assert [one.name for one in propose(spec, ())] == ["baseline"]
