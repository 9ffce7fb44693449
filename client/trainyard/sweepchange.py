"""What of a sweep's spec must stay as it was, once trials ran by it."""

from collections.abc import Mapping
from typing import Any

from trainyard.errors import Rejected
from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.desired import compared_fields
from trainyard_operator.sweep.faults import FREE, MIXED


def mixing(before: SweepSpec, after: SweepSpec, help_: str) -> Rejected:
    """The refusal of a changed spec; it names the first field that differs."""
    return Rejected(f"{_changed(before, after)}: {MIXED}", help_)


def mixing_here(before: SweepSpec, after: SweepSpec, which: str, help_: str) -> Rejected:
    """The same of `trainyard run`. which: the unfinished run, and where its results lie."""
    return Rejected(
        f"{_changed(before, after)}: was changed in a way that would mix results of two kinds in "
        f"the unfinished run of {which}; change it back, give the changed sweep another name with "
        "--name, or begin anew with --fresh, after which nothing goes on with the unfinished run, "
        f"whose results stay. {FREE}",
        help_,
    )


def _changed(before: SweepSpec, after: SweepSpec) -> str:
    old, new = (compared_fields(spec, by_alias=True) for spec in (before, after))
    return _first_difference("spec", old, new)


def _first_difference(path: str, old: Any, new: Any) -> str:
    """Dotted path of a value that is not the same in both."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            if old.get(key) != new.get(key):
                return _first_difference(f"{path}.{key}", old.get(key), new.get(key))
    return path
