import subprocess
import sys
from typing import Any

import pytest
import yaml
from pydantic import Field

from trainyard_trainer.config import (
    OptimizerConfig,
    RecipeConfig,
    Section,
    TrainingConfig,
    build_config,
    config_hash,
    parse_layer,
)
from trainyard_trainer.config_text import render_config
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.registry import config_class, recipe_names


class Network(Section):
    """Of the tests."""

    width: int = Field(default=8, ge=1, le=64)
    """Features, from 1 to 64."""
    classes: int
    """How many there are."""


class Config(RecipeConfig):
    """A recipe with defaults of its own."""

    training: TrainingConfig = TrainingConfig(
        epochs=50, optimizer=OptimizerConfig(name="sgd", momentum=0.5)
    )
    """How to train."""
    network: Network = Network(classes=3)
    """What to train."""


@pytest.mark.parametrize(
    ("layer", "overrides", "message"),
    [
        (
            {"training": {"learning_rte": 1}},
            [],
            "spec.config.training: unknown key 'learning_rte'; did you mean 'learning_rate'?",
        ),
        (
            {},
            ["training.learning_rte=1"],
            "spec.overrides.training: unknown key 'learning_rte'; did you mean 'learning_rate'?",
        ),
        ({"trainin": {}}, [], "spec.config: unknown key 'trainin'; did you mean 'training'?"),
        (
            {"zzz": 1},
            [],
            "spec.config: unknown key 'zzz'; known: 'data', 'network', 'training'.",
        ),
        (
            {"training": {"epochs": 0}},
            [],
            "spec.config.training.epochs: must be at least 1; got 0.",
        ),
        (
            {},
            ["network.width=65"],
            "spec.overrides.network.width: must be at least 1 and at most 64; got 65.",
        ),
        (
            {"training": {"optimizer": {"name": "adamm"}}},
            [],
            "spec.config.training.optimizer.name: must be one of 'adamw', 'adam', 'sgd'; "
            "got 'adamm'.",
        ),
        (
            {"training": {"epochs": "many"}},
            [],
            "spec.config.training.epochs: must be a whole number; got 'many'.",
        ),
        (
            {"training": {"early_stopping": {"patienc": 1}, "epochs": -1}},
            [],
            "spec.config.training.early_stopping: unknown key 'patienc'; did you mean 'patience'? "
            "(1 more after that.)",
        ),
        (
            {},
            ["training.epochs=true"],
            "spec.overrides.training.epochs: must be a whole number; got true.",
        ),
        (
            {"training": {"clip_grad_norm": False}},
            [],
            "spec.config.training.clip_grad_norm: must be a number; got false.",
        ),
        (
            {},
            ["training.schedule.milestones=[true, 3]"],
            "spec.overrides.training.schedule.milestones: must be a list of numbers; "
            "got [True, 3].",
        ),
        ({"training": 3}, [], "spec.config.training: must be keys and values; got 3."),
        (
            {},
            ["epochs"],
            "spec.overrides: 'epochs' is not of the form key=value; write for instance "
            "'training.epochs=3'.",
        ),
        ({}, ["a=[1"], "spec.overrides: the value of 'a=[1' is not YAML; quote it."),
    ],
)
def test_mistake_is_told_in_a_sentence(
    layer: dict[str, Any], overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_config(Config, [layer], overrides)
    assert str(caught.value) == message


def test_layers_are_merged_key_by_key_and_the_later_wins() -> None:
    config = build_config(
        Config,
        [{"training": {"epochs": 5, "seed": 1}}, {"training": {"seed": 2}}],
        ["training.learning_rate=1e-4", "network.width=16"],
    )
    assert config == Config(
        training=TrainingConfig(
            epochs=5,
            seed=2,
            learning_rate=1e-4,
            optimizer=OptimizerConfig(name="sgd", momentum=0.5),
        ),
        network=Network(width=16, classes=3),
    )


def test_layer_is_named_by_its_source() -> None:
    layers: list[dict[str, Any]] = [{"training": {"epochs": 0}}, {}]
    with pytest.raises(ConfigurationError, match=r"^spec.configFrom.training.epochs: "):
        build_config(Config, layers, sources=["spec.configFrom", "spec.config"])


def test_text_that_is_no_mapping_is_refused() -> None:
    assert parse_layer(None, "spec.configFrom") == {}
    with pytest.raises(ConfigurationError) as caught:
        parse_layer("- 1", "spec.configFrom")
    assert str(caught.value) == "spec.configFrom: expected keys and values, found a list."
    with pytest.raises(ConfigurationError, match="not YAML in line 1, column 5"):
        parse_layer("a: [", "spec.configFrom")


def test_key_that_a_layer_has_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_layer("training:\n  epochs: 1\n  seed: 1\n  epochs: 2\n", "spec.configFrom")
    assert str(caught.value) == (
        "spec.configFrom: training.epochs is given twice, again in line 4; leave one of them."
    )


def test_key_beside_one_that_is_merged_is_no_repeat() -> None:
    text = "one: &one {epochs: 1}\ntwo: {<<: *one, epochs: 2}\n"
    assert parse_layer(text, "--config") == {"one": {"epochs": 1}, "two": {"epochs": 2}}


def test_hash_depends_on_values_alone() -> None:
    one = build_config(Config, [{"training": {"epochs": 5}}])
    assert config_hash(one) == config_hash(build_config(Config, [], ["training.epochs=5"]))
    assert config_hash(one) != config_hash(build_config(Config, []))


@pytest.mark.parametrize("cls", [Config, *map(config_class, recipe_names())])
def test_rendered_defaults_are_the_defaults(cls: type[RecipeConfig]) -> None:
    assert build_config(cls, [yaml.safe_load(render_config(cls)) or {}]) == build_config(cls)


def test_rendered_keys_have_their_docstring_above() -> None:
    lines = render_config(Config).splitlines()
    at = lines.index("  width: 8")
    assert lines[at - 1] == "  # Features, from 1 to 64."


@pytest.mark.parametrize("name", ["clasification", "classifcation"])
def test_unknown_recipe_names_the_nearest(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config_class(name)
    assert (
        str(caught.value) == f"spec.recipe: unknown recipe '{name}'; did you mean 'classification'?"
    )


def test_configuration_needs_no_torch() -> None:
    code = (
        "import sys; from trainyard_trainer.registry import *; "
        "[config_class(name) for name in recipe_names()]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
