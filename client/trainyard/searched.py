"""What a template or a command line sets, and every trial of the sweep sets otherwise."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainyard.dotted import flattened
from trainyard.errors import Rejected
from trainyard.sweepkeys import fold_keys
from trainyard.yamltext import KeyPath, Located
from trainyard_operator.sweep.api import SweepSpec, TrainingSweep
from trainyard_operator.sweep.desired import FOLD_KEY, FOLDS_KEY, setting_text

_TEMPLATE: KeyPath = ("spec", "template", "spec")


def require_effect(sweep: TrainingSweep, document: Located) -> None:
    """Raises Rejected for an override that no trial would keep, and for a fold of the template's.

    A value in the template's `config` is a default, which a sweep may search over.
    """
    spec, job = sweep.spec, sweep.spec.template.spec
    if job.recipe is None:
        return
    places = set_by_trials(spec)
    for number, text in enumerate(job.overrides or ()):
        path = (*_TEMPLATE, "overrides", number)
        is_in_file = path in document.places
        where = f"{document.where(path)}: {_dotted(path)}: " if is_in_file else ""
        for key in _keys(job.recipe, text):
            _refuse_if_set(f"{where}'{text}'", key, places)
    if spec.folds and spec.fold_parameter == FOLD_KEY:
        path = (*_TEMPLATE, "config")
        for key, value in flattened(_read(job.recipe, job.config or {})).items():
            if key == FOLD_KEY or (key == FOLDS_KEY and value != spec.folds):
                where = document.where((*path, *key.split(".")))
                _refuse_if_set(f"{where}: {_dotted(path)}: '{key}'", key, places)


def set_by_trials(spec: SweepSpec) -> dict[str, str]:
    """Keys that every trial sets, in the recipe's own spelling, and the field that says so."""
    recipe = spec.template.spec.recipe or ""
    found: dict[str, str] = {}
    for key, one in (spec.parameters or {}).items():
        values = one.values or [one.min, one.max]
        settings = [_keys(recipe, f"{key}={setting_text(value)}") for value in values]
        found |= dict.fromkeys(_common(settings), f"spec.parameters.{key}")
    variants = [
        [k for key, v in one.overrides.items() for k in _keys(recipe, f"{key}={setting_text(v)}")]
        for one in spec.trials or ()
    ]
    found |= dict.fromkeys(_common(variants), "spec.trials")
    return found | dict.fromkeys(fold_keys(spec), "spec.folds")


def _refuse_if_set(what: str, key: str, places: Mapping[str, str]) -> None:
    if source := places.get(key):
        raise Rejected(
            f"{what} would have no effect, for {source} sets '{key}' in every trial; leave it "
            f"out, or change {source}"
        )


def _keys(recipe: str, text: str) -> list[str]:
    """Of `key=value`: all that it sets."""
    from trainyard_trainer.config import parse_override
    from trainyard_trainer.errors import ConfigurationError

    try:
        return list(flattened(_read(recipe, parse_override(text))))
    except ConfigurationError:
        return []  # The check of the trials tells what is wrong with it.


def _read(recipe: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """In the recipe's own spelling, where it is known here."""
    from trainyard_trainer import registry
    from trainyard_trainer.aliases import read_layer

    if recipe not in registry.recipe_names():
        return values
    return read_layer(registry.config_class(recipe).aliases, values, "spec.overrides").values


def _common(settings: Sequence[Iterable[str]]) -> list[str]:
    """What all of them have; none of none."""
    first, *others = settings or [()]
    return [key for key in first if all(key in other for other in others)]


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))
