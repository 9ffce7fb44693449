"""`model.json`: what the weights of a run are for, so that they can be used without its data set.

Written below the run's prefix when an attempt begins; `trainyard fetch` puts it beside model.pt. No
torch here.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from trainyard_trainer.errors import ConfigurationError

CARD_FILE = "model.json"


class Card(BaseModel):
    """Of one run."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    recipe: str
    config: Mapping[str, Any]
    labels: Mapping[str, Sequence[str]] | None = None
    """Names of outputs; see `Recipe.labels`. None: its data set tells."""
    data_path: Path | None = None
    """Where the run's data set lay, perhaps on another machine."""

    def to_json(self) -> str:
        """Readable, and the same for the same card."""
        return json.dumps(self.model_dump(mode="json"), indent=2)


def read_card(data: bytes, place: str) -> Card:
    """Undo `to_json`. place: for the message. Raises ConfigurationError."""
    try:
        return Card.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise ConfigurationError(
            f"'{place}' is no {CARD_FILE} of a run ({problem}); fetch the checkpoint again."
        ) from None


def without(config: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """A copy in which dotted keys are left to their defaults."""
    copied: dict[str, Any] = json.loads(json.dumps(config))
    for key in keys:
        *sections, name = key.split(".")
        here: Any = copied
        for section in sections:
            here = here.get(section) if isinstance(here, dict) else None
        if isinstance(here, dict):
            here.pop(name, None)
    return copied
