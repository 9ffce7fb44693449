"""Pydantic's findings in our words: where, what, and what to write instead."""

import difflib
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_TYPES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "path_type": "a path",
}
BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
"""Kinds of mistake: in words, and the name of the bound."""


def sentence(
    cls: type[BaseModel], error: ValidationError, origin: Mapping[tuple[str, ...], str]
) -> str:
    """The first mistake in one sentence, with the number of others.

    origin: which layer last set a key, by its path.
    """
    mistakes = error.errors(include_url=False)
    # An unknown key often explains the rest, such as a required one that it was meant to be.
    first = min(mistakes, key=lambda mistake: mistake["type"] != "extra_forbidden")
    text = _sentence(cls, first, origin)
    others = len({mistake["loc"] for mistake in mistakes} - {first["loc"]})
    return text if not others else f"{text} ({others} more after that.)"


def nearest(word: str, known: list[str], others: Sequence[str] = ()) -> str:
    """` did you mean 'x'?`, or the known words where none is near.

    others: may be meant as well, and are not listed.
    """
    match = difflib.get_close_matches(word, [*known, *others], n=1, cutoff=0.6)
    if match:
        return f"did you mean '{match[0]}'?"
    return "known: " + ", ".join(f"'{name}'" for name in sorted(known)) + "."


def _sentence(
    cls: type[BaseModel], mistake: ErrorDetails, origin: Mapping[tuple[str, ...], str]
) -> str:
    path = tuple(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        section = _section(cls, path[:-1])
        known = list(section.model_fields) if section else []
        spelt = _other_spellings(cls, path[:-1])
        where = ".".join((_source(path, origin), *path[:-1]))
        return f"{where}: unknown key '{path[-1]}'; {nearest(path[-1], known, spelt)}"
    where = ".".join((_source(path, origin), *path))
    if mistake["type"] == "missing":
        return f"{where}: is required; set it."
    return f"{where}: {_demand(cls, path, mistake)}; got {quoted(mistake['input'])}."


def _demand(cls: type[BaseModel], path: tuple[str, ...], mistake: ErrorDetails) -> str:
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind in BOUNDS:
        return f"must be {_range(cls, path) or _bound(kind, context)}"
    if kind == "literal_error":
        return f"must be one of {str(context['expected']).replace(' or ', ', ')}"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}"
    if kind == "value_error":
        return str(context["error"])
    return mistake["msg"][:1].lower() + mistake["msg"][1:]


def _bound(kind: str, context: Mapping[str, Any]) -> str:
    words, key = BOUNDS[kind]
    return f"{words} {context[key]}"


def _range(cls: type[BaseModel], path: tuple[str, ...]) -> str:
    """All bounds of a field, such as `at least 0 and less than 1`."""
    section = _section(cls, path[:-1])
    field = section.model_fields.get(path[-1]) if section else None
    found = []
    for words, key in BOUNDS.values():
        for part in field.metadata if field else ():
            if getattr(part, key, None) is not None:
                found.append(f"{words} {getattr(part, key)}")
    return " and ".join(found)


def _other_spellings(cls: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """Keys of a section that are read as others."""
    prefix = "".join(f"{part}." for part in path)
    keys = [alias.key for alias in getattr(cls, "aliases", ()) if alias.key.startswith(prefix)]
    return [key for key in (key.removeprefix(prefix) for key in keys) if "." not in key]


def _source(path: tuple[str, ...], origin: Mapping[tuple[str, ...], str]) -> str:
    for length in range(len(path), 0, -1):
        if path[:length] in origin:
            return origin[path[:length]]
    return "spec.config"


def _section(cls: type[BaseModel], path: tuple[str, ...]) -> type[BaseModel] | None:
    """The model class at a path, looking through optional fields."""
    section: type[BaseModel] | None = cls
    for part in path:
        field = section.model_fields.get(part) if section else None
        section = model_in(field.annotation) if field else None
    return section


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The one model class of a field's type, optional or not; None for none or several."""
    candidates = (
        get_args(annotation)
        if get_origin(annotation) in (Union, types.UnionType)
        else (annotation,)
    )
    models = [one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)]
    return models[0] if len(models) == 1 else None


def quoted(value: Any) -> str:
    """A value as it was written, cut where it is long."""
    plain = str(value).lower() if isinstance(value, bool) else str(value)
    text = f"'{value}'" if isinstance(value, str) else plain
    return text if len(text) <= 60 else text[:57] + "..."
