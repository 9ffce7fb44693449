"""A key that every trial sets cannot be set beside them without a word."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from core_sweeps import make_spec, write_sweep_file

RATES = {"training.learning_rate": {"values": [0.1, 0.2]}}
LIST = {"trials": [{"name": "A", "overrides": {"training.epochs": 1}}, {"name": "B"}]}
TOLD = "would have no effect, for"


def write_sweep(
    method: str = "grid", config: Any = None, overrides: Any = None, **more: Any
) -> None:
    job: dict[str, Any] = {"recipe": "classification", "storage": {"uri": "s3://bucket/sweeps"}}
    job |= {"config": config} if config else {}
    job |= {"overrides": overrides} if overrides else {}
    fields = {"parameters": RATES} if method == "grid" else {}
    write_sweep_file(make_spec(method, template={"spec": job}, **fields, **more))


def check(trainyard: Any, *words: str) -> tuple[int, str]:
    ran = trainyard("run", "sweep.yaml", "--dry-run", *words)
    return ran.code, ran.err.splitlines()[0].removeprefix("error: ")


def test_typed_value_of_a_searched_key_is_refused(trainyard) -> None:
    write_sweep()
    place = "spec.parameters.training.learning_rate"
    assert check(trainyard, "training.learning_rate=2") == (
        5,
        f"'training.learning_rate=2' {TOLD} {place} sets 'training.learning_rate' in every trial; "
        f"leave it out, or change {place}",
    )


@pytest.mark.parametrize("word", ["training={learning_rate: 2, epochs: 3}", "training.lr=2"])
def test_other_spelling_of_a_searched_key_is_refused(trainyard, word: str) -> None:
    write_sweep()
    code, told = check(trainyard, word)
    assert (code, told.startswith(f"'{word}' {TOLD} spec.parameters.training.lear")) == (5, True)


def test_override_of_the_template_that_is_searched_is_refused_at_its_place(trainyard) -> None:
    write_sweep(overrides=["training.epochs=2", "training.learning_rate=2"])
    code, told = check(trainyard)
    assert (code, told.partition("would")[0]) == (
        5,
        "sweep.yaml:19:9: spec.template.spec.overrides.1: 'training.learning_rate=2' ",
    )


def test_submit_refuses_it_too(trainyard) -> None:
    write_sweep()
    ran = trainyard("submit", "sweep.yaml", "training.learning_rate=2")
    assert (ran.code, f"'training.learning_rate=2' {TOLD}" in ran.err) == (5, True)


def test_default_of_the_template_may_be_searched_over(trainyard) -> None:
    write_sweep(config={"training": {"learning_rate": 2}, "data": {"fold": 1}})
    assert check(trainyard, "training.epochs=2")[0] == 0


def test_fold_of_the_template_is_refused_where_the_sweep_sets_it(trainyard) -> None:
    write_sweep("folds", config={"data": {"fold": 1}})
    sentence = f"{TOLD} spec.folds sets 'data.fold' in every trial; leave it out, or change"
    place = "sweep.yaml:15:11: spec.template.spec.config"
    assert check(trainyard) == (5, f"{place}: 'data.fold' {sentence} spec.folds")
    write_sweep("folds")
    assert check(trainyard, "data.fold=1") == (5, f"'data.fold=1' {sentence} spec.folds")
    write_sweep("folds", config={"data": {"folds": 5}})
    assert "'data.folds' would have no effect" in check(trainyard)[1]
    write_sweep("folds", config={"data": {"folds": 3}})
    assert check(trainyard)[0] == 0


def test_what_only_some_variants_set_may_be_set_beside_them(trainyard) -> None:
    write_sweep("list", **LIST)
    assert check(trainyard, "training.epochs=2")[0] == 0
    both = [{"name": n, "overrides": {"training.epochs": e}} for n, e in (("A", 1), ("B", 2))]
    write_sweep("list", trials=both)
    code, told = check(trainyard, "training.epochs=2")
    assert (code, told.endswith("leave it out, or change spec.trials")) == (5, True)


def test_beside_a_guides_file_the_same_holds(trainyard) -> None:
    guide = {
        "method": "grid",
        "metric": {"name": "val_accuracy", "goal": "maximize"},
        "parameters": {"training.learning_rate": {"values": [0.1, 0.2]}},
    }
    Path("guide.yaml").write_text(yaml.safe_dump(guide))
    words = ("run", "classification", "--sweep", "guide.yaml", "--dry-run")
    assert trainyard(*words, "training.epochs=2").code == 0
    ran = trainyard(*words, "--", "--lr", "2")
    assert (ran.code, f"'lr=2' {TOLD} spec.parameters" in ran.err) == (5, True)
