"""Kinds of numbers that several sections of the configuration take. No torch here."""

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1)]
Size = tuple[Side, Side, Side]
Millimetres = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
