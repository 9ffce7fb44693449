"""What a recipe says of new files: rows of one table, and files of its own beside it. No torch."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from trainyard_trainer.config import Section, parse_override
from trainyard_trainer.config_errors import sentence
from trainyard_trainer.errors import ConfigurationError

TABLE_FILE = "predictions.csv"
OptionsT = TypeVar("OptionsT", bound=Section)
Cell = str | float | int


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of one file."""

    columns: Sequence[str]
    """The same for every file of a model."""
    rows: Sequence[Sequence[Cell]]
    """Perhaps none, such as where nothing was found."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """By name, below the folder of the results."""


def parse_options(cls: type[OptionsT], words: Sequence[str]) -> OptionsT:
    """`key=value` words as a recipe's options. Raises ConfigurationError with the first mistake."""
    values: dict[str, Any] = {}
    for word in words:
        values |= parse_override(word)
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        origin: dict[tuple[str, ...], str] = {(key,): "options" for key in values}
        raise ConfigurationError(sentence(cls, error, origin)) from None


def build_table(predictions: Sequence[Prediction]) -> str:
    """CSV with one header. Numbers have six digits; there is at least one prediction."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(predictions[0].columns)
    for prediction in predictions:
        writer.writerows(_texts(row) for row in prediction.rows)
    return out.getvalue()


def _texts(row: Iterable[Cell]) -> list[str]:
    return [f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row]
