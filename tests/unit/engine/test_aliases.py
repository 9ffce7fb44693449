from typing import Any, Literal

import pytest

from trainyard_trainer.aliases import choice, rename, short, without_effect
from trainyard_trainer.config import DataConfig, RecipeConfig, Section, build_config, read_layers
from trainyard_trainer.config_text import render_spellings
from trainyard_trainer.errors import ConfigurationError


class Network(Section):
    """Of the tests."""

    name: Literal["small", "large"] = "small"
    """Which."""
    width: int = 8
    """Features."""


class Config(RecipeConfig):
    """A recipe with spellings of its own."""

    aliases = (
        rename("train", "training"),
        rename("training.max_epochs", "training.epochs"),
        short("training.optimizer", "training.optimizer.name"),
        choice("training.gradient_clipping", {True: {"training.clip_grad_norm": 1.0}, False: {}}),
        choice("training.amp", {16: {"training.precision": "fp16", "training.device": "cuda"}}),
        without_effect("training.progress_bar", "a line is logged for every epoch"),
        short("network", "network.name"),
    )
    groups = {
        "preset": {"quick": {"training.epochs": 2, "network.name": "large"}},
        "network.name": {"large": {"network.width": 64, "training.learning_rate": 0.5}},
    }

    preset: Literal["quick"] | None = None
    """A named set of values."""
    network: Network = Network()
    """What to train."""
    data: DataConfig = DataConfig()
    """Which."""


def notices(layers: list[dict[str, Any]], overrides: list[str] | None = None) -> list[str]:
    read = read_layers(Config, layers, overrides or [])
    return [notice for layer in read for notice in layer.notices]


@pytest.mark.parametrize(
    ("training", "key", "value", "notice"),
    [
        ({"max_epochs": 3}, "epochs", 3, "max_epochs: read as training.epochs: 3."),
        (
            {"gradient_clipping": True},
            "clip_grad_norm",
            1.0,
            "gradient_clipping: read as training.clip_grad_norm: 1.0.",
        ),
        (
            {"gradient_clipping": False},
            "clip_grad_norm",
            None,
            "gradient_clipping: read as nothing to set.",
        ),
        (
            {"amp": 16},
            "precision",
            "fp16",
            "amp: read as training.precision: 'fp16', training.device: 'cuda'.",
        ),
        (
            {"progress_bar": "rich"},
            "epochs",
            10,
            "progress_bar: no effect: a line is logged for every epoch.",
        ),
    ],
)
def test_other_spellings_are_read_and_told(
    training: dict[str, Any], key: str, value: Any, notice: str
) -> None:
    layer = {"training": training}
    assert getattr(build_config(Config, [layer]).training, key) == value
    assert notices([layer]) == [f"spec.config.training.{notice}"]
    assert layer == {"training": training}


def test_a_section_in_full_is_no_short_form() -> None:
    layer = {"training": {"optimizer": {"name": "sgd", "momentum": 0.5}}}
    assert build_config(Config, [layer]).training.optimizer.momentum == 0.5
    assert notices([layer]) == []
    assert build_config(Config, [], ["training.optimizer=sgd"]).training.optimizer.name == "sgd"


def test_aliases_feed_one_another_and_overrides_beat_files() -> None:
    layer = {"train": {"max_epochs": 3, "batch_size": 4}}
    config = build_config(Config, [layer], ["training.max_epochs=7"])
    assert (config.training.epochs, config.training.batch_size) == (7, 4)
    assert notices([layer], ["training.max_epochs=7"]) == [
        'spec.config.train: read as training: {"max_epochs": 3, "batch_size": 4}.',
        "spec.config.training.max_epochs: read as training.epochs: 3.",
        "spec.overrides.training.max_epochs: read as training.epochs: 7.",
    ]


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"amp": 8},
            "spec.config.training.amp: must be one of 16; got 8.",
        ),
        (
            {"gradient_clipping": 1},
            "spec.config.training.gradient_clipping: must be one of true, false; got 1.",
        ),
        (
            {"max_epochs": 3, "epochs": 4},
            "spec.config.training.max_epochs: is training.epochs, which is set to 4 beside it; "
            "write one of them.",
        ),
        (
            {"max_epochs": 0},
            "spec.config.training.epochs: must be at least 1; got 0.",
        ),
    ],
)
def test_mistakes_in_other_spellings_are_one_sentence(
    training: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_config(Config, [{"training": training}])
    assert str(caught.value) == message


def test_a_named_group_brings_its_defaults_below_whatever_is_written() -> None:
    chosen = build_config(Config, [{"training": {"learning_rate": 0.1}}], ["network=large"])
    assert (chosen.network.name, chosen.network.width) == ("large", 64)
    assert chosen.training.learning_rate == 0.1
    written = build_config(Config, [{"network": {"width": 9}}], ["network=large"])
    assert (written.network.width, written.training.learning_rate) == (9, 0.5)


def test_the_last_choice_of_a_group_counts_and_a_preset_may_choose() -> None:
    last = build_config(Config, [{"network": "large"}], ["network=small"])
    assert (last.network.name, last.network.width) == ("small", 8)
    preset = build_config(Config, [], ["preset=quick"])
    assert (preset.training.epochs, preset.network.name, preset.network.width) == (2, "large", 64)
    assert build_config(Config, [], ["preset=quick", "network=small"]).network.width == 8


def test_an_unknown_choice_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_config(Config, [], ["network=huge"])
    assert str(caught.value) == (
        "spec.overrides.network.name: must be one of 'small', 'large'; got 'huge'."
    )


def test_spellings_are_listed() -> None:
    assert render_spellings(Config.aliases) == (
        "# Other spellings that are read:\n"
        "#   train -> training\n"
        "#   training.max_epochs -> training.epochs\n"
        "#   training.optimizer -> training.optimizer.name\n"
        "#   training.gradient_clipping -> true: training.clip_grad_norm: 1.0; "
        "false: nothing to set\n"
        "#   training.amp -> 16: training.precision: 'fp16', training.device: 'cuda'\n"
        "#   training.progress_bar -> nothing: a line is logged for every epoch\n"
        "#   network -> network.name\n"
    )
    assert render_spellings(()) == ""
