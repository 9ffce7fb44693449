"""What every part of the API is made of."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from trainyard_operator.numbers import WithNumbers

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
LONGEST_NAME = 50
"""Of a job: with `-worker-1023` after it, it is a host name of at most 63 letters."""
Name = Annotated[str, Field(min_length=1, max_length=63)]
Text = Annotated[str, Field(max_length=1024)]
Seconds = Annotated[int, Field(ge=1, le=10**9)]
Uri = Annotated[str, Field(min_length=1, max_length=1024)]
Quantity = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True})]


def cel(*rules: tuple[str, str], **extra: Any) -> dict[str, Any]:
    """Schema extras: CEL rules as (expression, message a person can act on) pairs."""
    validations = [{"rule": rule, "message": message} for rule, message in rules]
    return {"x-kubernetes-validations": validations, **extra}


class ApiModel(WithNumbers):
    """An immutable part of the API; an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """The API's spelling, without unset fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
