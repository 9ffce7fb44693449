"""Ranks deal out a state by bytes, without asking one another."""

import copy
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainyard_trainer.shards import deal, merge


def optimizer_state(sizes):
    return {
        "state": {
            i: {"step": torch.tensor(3.0), "m": torch.zeros(n), "v": torch.ones(n)}
            for i, n in enumerate(sizes)
        },
        "param_groups": [{"lr": 0.1, "params": list(range(len(sizes)))}],
    }


def bytes_of(share):
    return sum(
        bytes_of(value) if isinstance(value, dict) else getattr(value, "nbytes", 0)
        for value in share.values()
    )


def merged(state, world_size, first_bytes=0):
    dealt = deal(state, world_size, first_bytes)
    whole: dict = {}
    for rank in range(world_size):
        whole = merge(whole, dealt.share(state, rank))
    return whole


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


@given(
    sizes=st.lists(st.integers(0, 2000), max_size=12),
    world_size=st.integers(1, 5),
    first_bytes=st.integers(0, 10000),
)
def test_the_shares_make_the_whole_again(sizes, world_size, first_bytes):
    state = optimizer_state(sizes)
    whole = merged(state, world_size, first_bytes)
    assert_same(whole, state)
    assert list(whole["state"]) == list(state["state"])


@given(sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=12), world_size=st.integers(2, 5))
def test_no_rank_has_more_than_its_part_and_one_tensor(sizes, world_size):
    state = optimizer_state(sizes)
    dealt = deal(state, world_size)
    shares = [bytes_of(dealt.share(state, rank)) for rank in range(world_size)]
    assert sum(shares) == bytes_of(state)
    assert max(shares) <= sum(shares) / world_size + 4 * max(sizes)


def test_the_first_rank_gets_less_where_it_writes_the_weights():
    state = optimizer_state([1000] * 6)
    dealt = deal(state, 3, first_bytes=24_000)
    shares = [bytes_of(dealt.share(state, rank)) for rank in range(3)]
    assert shares[0] < 100
    assert abs(shares[1] - shares[2]) < 100


def test_the_order_of_keys_does_not_matter():
    state = optimizer_state([5, 7, 9])
    shuffled = {
        "param_groups": state["param_groups"],
        "state": dict(reversed(state["state"].items())),
    }
    one, other = deal(state, 2), deal(shuffled, 2)
    assert (one.owners, one.digest) == (other.owners, other.digest)


@pytest.mark.parametrize("change", [{"v": torch.ones(6)}, {"v": torch.ones(5).double()}, {"w": 1}])
def test_ranks_that_hold_something_else_notice(change):
    state = optimizer_state([5, 7])
    other = copy.deepcopy(state)
    other["state"][0].update(change)
    is_tensor = isinstance(next(iter(change.values())), torch.Tensor)
    assert (deal(state, 2).digest != deal(other, 2).digest) is is_tensor


def test_tied_tensors_stay_together():
    tied = torch.zeros(10)
    dealt = deal({"a": tied, "b": tied, "c": torch.zeros(10)}, 2)
    assert dealt.owners[("a",)] == dealt.owners[("b",)] != dealt.owners[("c",)]


def test_what_is_no_tensor_is_the_first_ranks():
    state = {"n": 1, "list": [torch.zeros(3)], "empty": {}, "t": torch.zeros(3)}
    dealt = deal(state, 2, first_bytes=100)
    assert list(dealt.share(state, 0)) == ["n", "list", "empty"]
    assert list(dealt.share(state, 1)) == ["t"]


def test_versions_of_modules_survive():
    state = torch.nn.BatchNorm1d(3).state_dict()
    whole = merged({"raw": state}, 2)["raw"]
    assert isinstance(whole, OrderedDict)
    assert whole._metadata == state._metadata
