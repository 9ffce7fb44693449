"""Pydantic's findings on a TrainingJob as sentences: where, what, and what to write instead."""

import difflib
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainyard.errors import Rejected
from trainyard.yamltext import KeyPath, Located
from trainyard_trainer.config_errors import BOUNDS, quoted

_METADATA = (
    "name", "namespace", "labels", "annotations",
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers",
    "generateName", "generation", "managedFields", "ownerReferences", "resourceVersion",
    "selfLink", "uid",
)  # fmt: skip
"""Of Kubernetes' ObjectMeta; the first four are for people to write."""
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "dict": "keys and values",
    "model": "keys and values",
}
_SIZES = {"too_short": ("at least", "min_length"), "too_long": ("at most", "max_length")}
"""Of lists and mappings: kinds of mistake in words, and the name of the bound."""


def rejection(model: type[BaseModel], error: ValidationError, document: Located) -> Rejected:
    """All mistakes of a document, the first as the message, the others below it."""
    mistakes = error.errors(include_url=False)
    # Required keys are often missing only because they were misspelt: name the misspelling first.
    mistakes.sort(key=lambda mistake: mistake["type"] != "extra_forbidden")
    sentences: list[str] = []
    for mistake in mistakes:
        sentence = _sentence(model, mistake, document)
        if sentence not in sentences:
            sentences.append(sentence)
    return Rejected(sentences[0], details=tuple(sentences[1:]))


def nearest(word: str, known: Sequence[str]) -> str:
    """`did you mean 'x'?`, or what is known where nothing is near."""
    if match := near(word, known):
        return f"did you mean '{match}'?"
    return "known are " + ", ".join(f"'{name}'" for name in known)


def near(word: str, known: Sequence[str], cutoff: float = 0.6) -> str | None:
    """The known word that is most like it, if one is."""
    folded = {name.lower().replace("_", ""): name for name in known}
    match = difflib.get_close_matches(word.lower().replace("_", ""), folded, n=1, cutoff=cutoff)
    return folded[match[0]] if match else None


def require_known_metadata(document: Located) -> None:
    """Raises Rejected for a key of metadata that Kubernetes does not have, and would drop."""
    metadata = document.value.get("metadata") if isinstance(document.value, dict) else None
    for key in metadata if isinstance(metadata, dict) else ():
        if key not in _METADATA:
            where = document.where(("metadata", key))
            hint = nearest(str(key), _METADATA[:4])
            raise Rejected(f"{where}: metadata: unknown key '{key}'; {hint}")


def _hint(model: type[BaseModel], path: KeyPath, document: Located) -> str:
    """What was meant: a key of this place, or one that belongs further up."""
    word, known = str(path[-1]), _section(model, path[:-1])
    if near(word, known):
        return nearest(word, known)
    for length in range(len(path) - 2, 0, -1):
        if match := near(word, _section(model, path[:length]), cutoff=0.8):
            return f"did you mean '{document.named((*path[:length], match))}'?"
    return nearest(word, known)


def _sentence(model: type[BaseModel], mistake: ErrorDetails, document: Located) -> str:
    path = _without_union_tags(mistake["loc"], document.value)
    where = document.where(path)
    dotted = document.named(path)
    if mistake["type"] == "extra_forbidden":
        above = document.named(path[:-1]) or "the file"
        return f"{where}: {above}: unknown key '{path[-1]}'; {_hint(model, path, document)}"
    if mistake["type"] == "missing":
        return f"{where}: {dotted} is required"
    if mistake["type"] == "value_error":
        return ": ".join(filter(None, (where, dotted, str(mistake["ctx"]["error"]))))
    got = f", not {quoted(mistake['input'])}" if mistake["input"] != "" else ""
    return f"{where}: {dotted} {_demand(mistake)}{got}"


def _demand(mistake: ErrorDetails) -> str:
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind in BOUNDS:
        words, key = BOUNDS[kind]
        return f"must be {words} {context[key]}"
    if kind == "string_too_short":
        return "must not be empty"
    if kind in _SIZES:
        words, key = _SIZES[kind]
        return f"must have {words} {context[key]} {'entry' if context[key] == 1 else 'entries'}"
    if kind == "literal_error":
        return f"must be one of {context['expected']}".replace(" or ", ", ")
    if expected := _TYPES.get(kind.partition("_")[0]):
        return f"must be {expected}"
    message = mistake["msg"]
    return f"is wrong ({message[:1].lower()}{message[1:]})"


def _without_union_tags(location: tuple[int | str, ...], value: Any) -> KeyPath:
    """The location without the words that pydantic adds for the branches of a union."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if isinstance(value, dict) and (part in value or is_last):
            path.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
        elif isinstance(value, dict):
            path.append(part)
    return tuple(path)


def _section(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that are valid at a path, in the API's spelling."""
    found: type[BaseModel] | None = model
    is_key = False
    for part in path:
        if is_key or isinstance(part, int):
            is_key = False  # Of a mapping or a list, whose values are of the model found already.
            continue
        fields = found.model_fields.values() if found else ()
        field = next((one for one in fields if part == one.alias), None)
        found = _model_in(field.annotation) if field else None
        is_key = field is not None and _is_mapping(field.annotation)
    return [field.alias or name for name, field in found.model_fields.items()] if found else []


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(_is_mapping(one) for one in get_args(annotation))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [found for one in get_args(annotation) if (found := _model_in(one))]
    return models[0] if models else None
