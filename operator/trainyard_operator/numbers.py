"""Numbers that are numbers: pydantic takes true for 1 where a number is wanted."""

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationInfo, field_validator


class WithNumbers(BaseModel):
    """Its fields of whole and other numbers, and of lists of them, refuse true and false."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, bool | list | tuple):
            return value
        wanted = _types(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and bool not in wanted:
            if int in wanted:
                raise ValueError("must be a whole number")
            if float in wanted:
                raise ValueError("must be a number")
        if isinstance(value, list | tuple) and any(isinstance(one, bool) for one in value):
            within = _types(*(arg for one in wanted for arg in _items(one)))
            if {int, float} & within and bool not in within:
                raise ValueError("must be a list of numbers")
        return value


def _types(*annotations: Any) -> set[Any]:
    """All that a type allows, without the words around it."""
    found: set[Any] = set()
    for one in annotations:
        origin = get_origin(one)
        if origin in (Union, types.UnionType):
            found |= _types(*get_args(one))
        elif origin is Annotated:
            found |= _types(get_args(one)[0])
        else:
            found.add(one)
    return found


def _items(annotation: Any) -> tuple[Any, ...]:
    """Types of the items of a list's."""
    return get_args(annotation) if get_origin(annotation) in (list, tuple) else ()
