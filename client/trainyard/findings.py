"""Pydantic's findings on a TrainingJob as sentences: where, what, and what to write instead."""

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainyard.errors import Rejected
from trainyard.yamltext import KeyPath, Located
from trainyard_trainer.config_errors import BOUNDS, quoted

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "dict": "keys and values",
    "model": "keys and values",
}


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


def nearest(word: str, known: list[str]) -> str:
    """`did you mean 'x'?`, or what is known where nothing is near."""
    folded = {name.lower().replace("_", ""): name for name in known}
    match = difflib.get_close_matches(word.lower().replace("_", ""), folded, n=1, cutoff=0.6)
    if match:
        return f"did you mean '{folded[match[0]]}'?"
    return "known are " + ", ".join(f"'{name}'" for name in known)


def _sentence(model: type[BaseModel], mistake: ErrorDetails, document: Located) -> str:
    path = _without_union_tags(mistake["loc"], document.value)
    where = document.where(path)
    dotted = ".".join(str(part) for part in path)
    if mistake["type"] == "extra_forbidden":
        section = _section(model, path[:-1])
        above = ".".join(str(part) for part in path[:-1]) or "the file"
        return f"{where}: {above}: unknown key '{path[-1]}'; {nearest(str(path[-1]), section)}"
    if mistake["type"] == "missing":
        return f"{where}: {dotted} is required"
    if mistake["type"] == "value_error":
        return f"{where}: {dotted}: {mistake['ctx']['error']}"
    return f"{where}: {dotted} {_demand(mistake)}, not {quoted(mistake['input'])}"


def _demand(mistake: ErrorDetails) -> str:
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind in BOUNDS:
        words, key = BOUNDS[kind]
        return f"must be {words} {context[key]}"
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
    for part in path:
        fields = found.model_fields.values() if found else ()
        field = next((one for one in fields if part == one.alias), None)
        found = _model_in(field.annotation) if field else None
    return [field.alias or name for name, field in found.model_fields.items()] if found else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [found for one in get_args(annotation) if (found := _model_in(one))]
    return models[0] if models else None
