"""Dealing a state out over the ranks: who writes which tensor of what all of them hold alike.

Every rank comes to the same answer by itself, from names and sizes alone. Dicts are taken apart,
whatever else lies in them is a leaf; a reader merges the shares again, key by key.
"""

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Deal:
    """Which rank writes which leaf."""

    owners: Mapping[Path, int]
    """Leaves that are not in it are rank 0's."""
    digest: int
    """Equal on two ranks that deal alike; 62 bits."""

    def share(self, state: Mapping[str, Any], rank: int) -> dict[Any, Any]:
        """What `rank` writes of a state; rank 0 keeps the dicts themselves, empty ones too."""
        return _pick(state, (), self.owners, rank)


ALL_FIRST = Deal({}, 0)
"""Rank 0 writes everything."""


def deal(state: Mapping[str, Any], world_size: int, first_bytes: int = 0) -> Deal:
    """Give each tensor to the rank that has least so far, the largest tensors first.

    first_bytes: what rank 0 writes beside its share. Values that are no tensors are rank 0's, and
    tied tensors stay together.
    """
    leaves = sorted(_leaves(state, ()), key=lambda leaf: (-leaf[1].nbytes, repr(leaf[0])))
    text = repr([(path, str(t.dtype), tuple(t.shape)) for path, t in leaves]).encode()
    digest = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 2
    if world_size == 1:
        return Deal({}, digest)
    loads = [first_bytes, *[0] * (world_size - 1)]
    owners: dict[Path, int] = {}
    tied: dict[object, int] = {}
    for path, tensor in leaves:
        identity = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else path
        if identity not in tied:
            tied[identity] = loads.index(min(loads))
            loads[tied[identity]] += tensor.nbytes
        owners[path] = tied[identity]
    return Deal(owners, digest)


def tensors_of(state: Mapping[Any, Any]) -> Iterator[Tensor]:
    """All tensors that lie in the dicts of a state."""
    return (tensor for _, tensor in _leaves(state, ()))


def merge(one: dict[Any, Any], other: Mapping[Any, Any]) -> dict[Any, Any]:
    """Dicts are merged key by key, of anything else `other`'s stands."""
    merged = copy.copy(one)  # With its kind, and the modules' versions where it holds weights.
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _leaves(value: Mapping[Any, Any], path: Path) -> Iterator[tuple[Path, Tensor]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _leaves(item, (*path, key))
        elif isinstance(item, Tensor):
            yield (*path, key), item


def _pick(value: Mapping[Any, Any], path: Path, owners: Mapping[Path, int], rank: int) -> Any:
    share: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
    for key, item in value.items():
        here = (*path, key)
        if isinstance(item, dict):
            inner = _pick(item, here, owners, rank)
            if inner or rank == 0:
                share[key] = inner
        elif owners.get(here, 0) == rank:
            share[key] = item
    # load_state_dict reads the modules' versions from here.
    if isinstance(share, OrderedDict) and hasattr(value, "_metadata"):
        share.__dict__["_metadata"] = value._metadata
    return share
