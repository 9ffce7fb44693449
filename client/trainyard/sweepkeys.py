"""Keys of a sweep that set one another: of two spellings of one key the later wins unseen."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

from trainyard.errors import Rejected
from trainyard.jobfile import config_class_of
from trainyard.yamltext import KeyPath, Located
from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.desired import FOLD_KEY, FOLDS_KEY, setting_text
from trainyard_operator.sweep.space import extremes
from trainyard_trainer.errors import ConfigurationError

if TYPE_CHECKING:
    from trainyard_trainer.config import RecipeConfig

Values = Mapping[str, Sequence[Any]]
"""Dotted key, as it is written, to what it may be."""
Leaves = set[tuple[str, ...]]
"""Paths of the recipe's own keys."""


def require_apart(spec: SweepSpec, document: Located) -> None:
    """Raises Rejected where two settings of a trial are one key, or a section and a key of it.

    Only of a recipe that is installed here: its spellings say which are one key, and that `model`
    may be `model.name`, beside which there is room for `model.depth`.
    """
    recipe = config_class_of(spec.template.spec)
    if recipe is None:
        return
    folds: Leaves = set().union(*(_leaves(recipe, key, [0]) for key in fold_keys(spec)))
    for path, settings in _settings(spec):
        found = {key: _leaves(recipe, key, values) for key, values in settings.items()}
        where, named = document.where, document.named(path)
        for (one, first), (other, second) in combinations(found.items(), 2):
            if what := _shared(first, second):
                raise Rejected(
                    f"{where((*path, other))}: {named}: '{one}' and '{other}' both set {what}; "
                    "write one of them"
                )
        for key, leaves in found.items():
            if what := _shared(leaves, folds):
                raise Rejected(
                    f"{where((*path, key))}: {named}.{key}: sets {what}, and folds do; leave one "
                    "of them out"
                )


def _settings(spec: SweepSpec) -> Iterator[tuple[KeyPath, Values]]:
    """What is set together, and where it stands."""
    if spec.parameters:
        yield (
            ("spec", "parameters"),
            {key: extremes(parameter) for key, parameter in spec.parameters.items()},
        )
    for place, trial in enumerate(spec.trials or ()):
        path = ("spec", "trials", place, "overrides")
        yield path, {key: [value] for key, value in trial.overrides.items()}


def fold_keys(spec: SweepSpec) -> list[str]:
    """What folds set in every trial."""
    if spec.folds is None:
        return []
    return [FOLD_KEY, FOLDS_KEY] if spec.fold_parameter == FOLD_KEY else [spec.fold_parameter]


def _leaves(recipe: "type[RecipeConfig]", key: str, values: Sequence[Any]) -> Leaves:
    """What a key comes to in the recipe's own spelling, whichever of its values it has."""
    from trainyard_trainer.config import read_layers

    found: Leaves = set()
    for value in values:
        try:
            layers = read_layers(recipe, overrides=[f"{key}={setting_text(value)}"])
        except ConfigurationError:
            continue  # It is told of the trials that have it.
        found.update(path for layer in layers for path in _paths(layer.values))
    return found


def _paths(values: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        below = list(_paths(value)) if isinstance(value, Mapping) else []
        yield from ((key, *path) for path in below or [()])


def _shared(one: Leaves, other: Leaves) -> str:
    """A key that both set, or one of the two whose section the other does; empty: none."""
    for pair in product(sorted(one), sorted(other)):
        short, long = sorted(pair, key=len)
        if long[: len(short)] == short:
            return ".".join(long)
    return ""
