"""What of a sweep's spec must stay as it was, once trials ran by it."""

from collections.abc import Mapping
from typing import Any

from trainyard.errors import Rejected
from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.desired import compared_fields
from trainyard_operator.sweep.faults import MIXED


def mixing(before: SweepSpec, after: SweepSpec, help_: str) -> Rejected:
    """The refusal of a changed spec; it names the first field that differs."""
    old, new = (compared_fields(spec, by_alias=True) for spec in (before, after))
    return Rejected(f"{_first_difference('spec', old, new)}: {MIXED}", help_)


def _first_difference(path: str, old: Any, new: Any) -> str:
    """Dotted path of a value that is not the same in both."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            if old.get(key) != new.get(key):
                return _first_difference(f"{path}.{key}", old.get(key), new.get(key))
    return path
