"""Find recipes by name.

A recipe is a package with two modules: `config.py`, free of torch, holding the class `Config`; and
`recipe.py`, holding a Recipe under `@recipe("its-name")`. It may have `synth.py`, whose
`main([directory, "--seed", ...])` writes stand-in data in the layout of the real one, and
`outputs.py`, which lays out a run's results as a guide names them. Ours are the folders of
`trainyard_trainer/recipes`, dashes written as underscores; others come from installed packages,
through the entry point group `trainyard.recipes` (name to package).
"""

import functools
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from trainyard_trainer import recipes
from trainyard_trainer.config import RecipeConfig
from trainyard_trainer.config_errors import nearest
from trainyard_trainer.errors import ConfigurationError

if TYPE_CHECKING:
    from trainyard_trainer.recipe import Recipe

ENTRY_POINTS = "trainyard.recipes"

_registered: dict[str, "type[Recipe[Any]]"] = {}
_RecipeT = TypeVar("_RecipeT", bound="type[Recipe[Any]]")


def recipe(name: str) -> Callable[[_RecipeT], _RecipeT]:
    """Class decorator that makes a Recipe known as `name`."""

    def register(cls: _RecipeT) -> _RecipeT:
        known = _registered.get(name)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise ValueError(f"recipe '{name}' is already {known.__module__}.{known.__qualname__}")
        _registered[name] = cls
        return cls

    return register


def recipe_names() -> list[str]:
    """All recipes that can be run here, sorted."""
    return sorted({*_packages(), *_registered})


def config_class(name: str) -> type[RecipeConfig]:
    """What a recipe can be told; imports no torch. Raises ConfigurationError if it is unknown."""
    if name in _registered:
        return _registered[name].config_class
    found: type[RecipeConfig] = importlib.import_module(f"{recipe_package(name)}.config").Config
    return found


def load_recipe(name: str) -> "type[Recipe[Any]]":
    """The recipe's class. Raises ConfigurationError if it is unknown."""
    if name not in _registered:
        package = recipe_package(name)
        importlib.import_module(f"{package}.recipe")
        if name not in _registered:
            raise ConfigurationError(
                f"spec.recipe: {package}.recipe holds no recipe '{name}'; "
                f"decorate its class with @recipe('{name}')."
            )
    return _registered[name]


def recipe_package(name: str) -> str:
    """Where a recipe's modules lie. Raises ConfigurationError if it is unknown."""
    packages = _packages()
    if name not in packages:
        known = sorted({*packages, *_registered})
        raise ConfigurationError(f"spec.recipe: unknown recipe '{name}'; {nearest(name, known)}")
    return packages[name]


@functools.cache  # It reads what every distribution says of itself.
def _packages() -> Mapping[str, str]:
    """Recipe name to package; ours win."""
    found = {
        point.name: point.value for point in importlib.metadata.entry_points(group=ENTRY_POINTS)
    }
    for module in pkgutil.iter_modules(recipes.__path__):
        if module.ispkg:
            found[module.name.replace("_", "-")] = f"{recipes.__name__}.{module.name}"
    return found
