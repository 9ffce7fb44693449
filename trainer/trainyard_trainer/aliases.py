"""Other spellings of a configuration, such as a guide's own: read into ours before validation.

A recipe lists them as `RecipeConfig.aliases`; each layer is rewritten before it is merged, and each
rewriting is told in one sentence, a notice. `RecipeConfig.groups` lays defaults below all layers by
the value of one key: `model=efficientnet` brings what an efficientnet needs.

    aliases = (
        rename("training.max_epochs", "training.epochs"),
        short("model", "model.name"),
        choice("training.gradient_clipping", {True: {"training.clip_grad_norm": 1.0}, False: {}}),
        without_effect("training.progress_bar", "a line is logged for every epoch"),
    )

No torch here, and nothing of config.py: the client reads these, too.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from trainyard_trainer.errors import ConfigurationError

Values = Mapping[str, Any]
"""Dotted keys and their values."""


_NOTHING = "nothing: "


class Alias(NamedTuple):
    """One key as others write it."""

    key: str
    """Dotted, such as `training.max_epochs`."""
    read: Callable[[Any], Values | None]
    """What a value becomes, by dotted keys of ours; None leaves it as it is. Raises ValueError with
    what to write instead."""
    says: str
    """What becomes of it, for people: `training.epochs`."""


class Layer(NamedTuple):
    """Values from one place, as nested mappings, and how other spellings in it were read."""

    source: str
    values: Mapping[str, Any]
    notices: Sequence[str]


def rename(key: str, to: str) -> Alias:
    """`key` is `to`, with the same value or, of a section, the same keys below it."""
    return Alias(key, lambda value: {to: value}, to)


def short(key: str, to: str) -> Alias:
    """A plain value in the place of a section: `optimizer: adamw` is `optimizer.name: adamw`."""
    return Alias(key, lambda value: None if _is_section(value) else {to: value}, to)


def choice(key: str, values: Mapping[Any, Values]) -> Alias:
    """Each value stands for one or more of our keys; a value that is not listed is refused."""

    def read(value: Any) -> Values | None:
        if _is_section(value):
            return None
        for known, meaning in values.items():
            if type(known) is type(value) and known == value:
                return None if meaning == {key: value} else meaning
        known_words = ", ".join(_text(known) for known in values)
        raise ValueError(f"must be one of {known_words}; got {_text(value)}")

    return Alias(key, read, "; ".join(f"{_text(k)}: {_written(v)}" for k, v in values.items()))


def without_effect(key: str, why: str) -> Alias:
    """Accepted, for there is nothing to set here; `why` says what does it instead."""
    return Alias(key, lambda value: {}, f"{_NOTHING}{why}")


def read_layer(aliases: Sequence[Alias], values: Mapping[str, Any], source: str) -> Layer:
    """A layer in our spelling. Aliases apply in their order, so that one may feed the next.

    Raises ConfigurationError for a value that an alias refuses, and where an alias and our own key
    for it disagree.
    """
    if not aliases:
        return Layer(source, values, ())
    rewritten = deepcopy(dict(values))
    notices = []
    for alias in aliases:
        holder, name = _holder(rewritten, alias.key)
        if holder is None or name not in holder:
            continue
        where, value = f"{source}.{alias.key}", holder[name]
        try:
            meaning = alias.read(value)
        except ValueError as error:
            raise ConfigurationError(f"{where}: {error}.") from None
        if meaning is None:
            continue
        del holder[name]
        for key, one in meaning.items():
            _put(rewritten, key, one, where)
        notices.append(f"{where}: {_told(alias, meaning)}.")
    return Layer(source, rewritten, notices)


def group_values(
    groups: Mapping[str, Mapping[str, Values]], layers: Sequence[Layer], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """What the chosen groups lay below the layers, nested.

    The last layer that chooses wins; where none does, an earlier group, such as a preset, and then
    `defaults`. Of two groups the later one wins. A choice that is not listed brings nothing:
    validation names it.
    """
    found: dict[str, Any] = {}
    for key, choices in groups.items():
        places = (defaults, found, *(one.values for one in layers))
        holders = [_holder(values, key) for values in places]
        chosen = [holder[name] for holder, name in holders if holder is not None and name in holder]
        last = chosen[-1] if chosen else None
        for dotted, value in choices.get(last, {}).items() if isinstance(last, str) else ():
            here, name = _section_at(found, dotted)
            here[name] = value
    return found


def _holder(values: Mapping[str, Any], key: str) -> tuple[Any, str]:
    """The mapping that would hold a dotted key, None where there is none; and its last name."""
    *path, name = key.split(".")
    here: Any = values
    for part in path:
        here = here.get(part) if isinstance(here, Mapping) else None
    return (here if isinstance(here, Mapping) else None), name


def _section_at(values: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The mapping that holds a dotted key, made where there is none; and its last name."""
    *path, name = key.split(".")
    here = values
    for part in path:
        if not isinstance(here.get(part), dict):
            here[part] = {}
        here = here[part]
    return here, name


def _put(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    here, name = _section_at(values, key)
    if _is_section(value) and _is_section(here.get(name)):
        for inner, one in value.items():
            _put(values, f"{key}.{inner}", one, where)
    elif name in here and here[name] != value:
        raise ConfigurationError(
            f"{where}: is {key}, which is set to {_text(here[name])} beside it; write one of them."
        )
    else:
        here[name] = value


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping)


def _told(alias: Alias, meaning: Values) -> str:
    if alias.says.startswith(_NOTHING):
        return f"no effect: {alias.says.removeprefix(_NOTHING)}"
    return f"read as {_written(meaning)}"


def _written(values: Values) -> str:
    if not values:
        return "nothing to set"
    return ", ".join(f"{key}: {_text(value)}" for key, value in values.items())


def _text(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else json.dumps(value, default=str)
