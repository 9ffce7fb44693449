"""A configuration as YAML, each key below its docstring; `configs/` and the docs come from here."""

import textwrap
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trainyard_trainer.aliases import Alias
from trainyard_trainer.config_errors import model_in


def render_config(
    cls: type[BaseModel], config: BaseModel | None = None, *, width: int = 100
) -> str:
    """All keys of a recipe's configuration as commented YAML.

    config: whose values to show; None: the defaults.
    """
    lines: list[str] = []
    for name, field in cls.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        value = default if config is None else getattr(config, name)
        lines += _render(name, field, value, 0, width)
    return "\n".join(lines) + "\n"


def render_spellings(aliases: Sequence[Alias], width: int = 100) -> str:
    """What else a recipe reads, a comment a key; empty where there is nothing else."""
    lines = []
    for alias in aliases:
        text = f"{alias.key} -> {alias.says}"
        lines += textwrap.wrap(text, width, initial_indent="#   ", subsequent_indent="#     ")
    return "\n".join(["# Other spellings that are read:", *lines]) + "\n" if lines else ""


def _render(name: str, field: FieldInfo, value: Any, indent: int, width: int) -> list[str]:
    pad = " " * indent
    text = " ".join((field.description or "").split())
    prefix = f"{pad}# "
    comment = textwrap.wrap(text, width, initial_indent=prefix, subsequent_indent=prefix)
    if isinstance(value, BaseModel):
        children = [
            line
            for child, child_field in type(value).model_fields.items()
            for line in _render(child, child_field, getattr(value, child), indent + 2, width)
        ]
        return [*comment, f"{pad}{name}:", *children]
    if value is PydanticUndefined:
        section = model_in(field.annotation)
        kind = section.__name__ if section else str(field.annotation)
        return [*comment, f"{pad}# {name}: required, {kind}"]
    return [*comment, f"{pad}{name}: {_scalar(value)}"]


def _scalar(value: Any) -> str:
    """One line of YAML."""
    plain = yaml.safe_load(yaml.safe_dump(_plain(value)))
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
