"""Every sweep of configs/sweeps is valid, down to each trial's configuration."""

from pathlib import Path

import pytest
import yaml

from trainyard.jobfile import Request
from trainyard.sweepfile import load_sweep
from trainyard_operator.defaults import Defaults
from trainyard_operator.sweep.desired import build_trial
from trainyard_operator.sweep.search import propose, trials_in_all
from trainyard_trainer.config import build_config
from trainyard_trainer.recipes.mar_gan.config import Config
from trainyard_trainer.recipes.mar_gan.variants import ABLATION

FOLDER = Path(__file__).parents[3] / "configs" / "sweeps"
TRIALS = {
    "classification-search": 9,
    "digits-asha": 20,
    "digits-folds": 5,
    "mar-gan-ablation": 16,
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


def test_the_ablation_has_every_variant_of_the_guide() -> None:
    manifest = yaml.safe_load((FOLDER / "mar-gan-ablation.yaml").read_text())
    told = {one["name"]: one.get("overrides", {}) for one in manifest["spec"]["trials"]}
    assert told == {"full": {}, **ABLATION}


def test_each_variant_changes_the_job_that_is_trained() -> None:
    sweep = load_sweep(Request(target=str(FOLDER / "mar-gan-ablation.yaml"))).sweep
    proposals = propose(sweep.spec.model_copy(update={"parallelism": 16}), ())
    trials = [build_trial(sweep, one, Defaults())["spec"] for one in proposals]
    full, *configs = [build_config(Config, [s["config"]], s.get("overrides", ())) for s in trials]
    same = [one.name for one, config in zip(proposals[1:], configs, strict=True) if config == full]
    assert same == ["A7"]  # Hinge loss is the default.


def test_each_step_waits_for_the_one_before() -> None:
    spec = load_sweep(Request(target=str(FOLDER / "skin-lesion-steps.yaml"))).sweep.spec
    assert [one.name for one in propose(spec, ())] == ["baseline"]
