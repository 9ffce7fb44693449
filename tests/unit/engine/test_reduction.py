"""What ranks send at an evaluation, added up here without them."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainyard_trainer.metrics import Counts
from trainyard_trainer.reduction import Joined, Outputs, OutputsDiffer, require_same, unpack
from trainyard_trainer.sampler import evaluation_share


def judge(indices: Tensor) -> dict[str, Any]:
    """Outputs of some samples, of every kind that takes part in the sum."""
    loss = torch.tensor([float("nan"), float("-inf"), 1e38, -0.1])[indices % 4]
    return {
        "loss": loss,
        "dice": torch.sin(indices.double())[:, None] * torch.ones(3, dtype=torch.float64),
        "half": loss.bfloat16(),
        "right": indices % 2 == 0,
        "nothing": torch.empty(len(indices), 0),
        "classes": Counts(torch.bincount(indices % 3, minlength=3)),
        "total": Counts(torch.tensor(len(indices))),
    }


def judge_on(ranks: int, size: int, batch_size: int) -> dict[str, Tensor]:
    """As a gang would."""
    joined: list[Joined] = []
    packed = torch.zeros(0, dtype=torch.int64)
    for rank in range(ranks):
        share, outputs = evaluation_share(size, rank, ranks), Outputs()
        read = list(share) or [0]
        for start in range(0, len(read), batch_size):
            outputs.add(judge(torch.tensor(read[start : start + batch_size])))
        joined.append(outputs.join(len(share)))
        mine = joined[-1].pack(share, size)
        packed = packed + mine if rank else mine
        require_same(joined[0].columns, joined[-1].columns, f"rank {rank} had")
    return unpack(joined[0].columns, packed, size)


@given(ranks=st.integers(1, 9), size=st.integers(1, 20), batch_size=st.integers(1, 6))
def test_any_gang_gathers_what_one_rank_does_to_the_bit(
    ranks: int, size: int, batch_size: int
) -> None:
    found, whole = judge_on(ranks, size, batch_size), judge(torch.arange(size))
    assert found.keys() == whole.keys()
    for name, expected in whole.items():
        assert bits(found[name]) == bits(expected), name


def bits(value: Tensor | Counts) -> tuple[torch.dtype, torch.Size, list[int]]:
    """Type, shape and bytes, so that NaN equals itself."""
    tensor = value.value.long() if isinstance(value, Counts) else value
    return tensor.dtype, tensor.shape, tensor.flatten().view(torch.uint8).tolist()


def joined(**outputs: Any) -> Joined:
    found = Outputs()
    found.add(outputs)
    return found.join(2)


def test_lists_and_large_rows_take_no_part_in_the_sum() -> None:
    one = joined(name=["a", "b"], picture=torch.zeros(2, 3, 8, 8), loss=torch.zeros(2))
    assert set(one.objects) == {"name", "picture"}
    assert one.pack(range(2), 2).nbytes == 8


def test_buffer_is_no_larger_than_what_is_sent() -> None:
    one = joined(matrix=Counts(torch.zeros(3, 3, dtype=torch.int32)), hit=torch.ones(2).bool())
    assert one.pack(range(0, 99, 50), 99).nbytes == 9 * 8 + 104


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(
            {"loss": torch.zeros(3)},
            "evaluate_batch: 'loss' has 3 rows for 2 samples of this rank; return one row for each "
            "sample, or wrap what is added up in metrics.Counts.",
            id="too many",
        ),
        pytest.param(
            {"loss": torch.tensor(1.0)},
            "evaluate_batch: 'loss' is a single number; return one for each sample, (B,), or wrap "
            "whole numbers in metrics.Counts.",
            id="one number",
        ),
    ],
)
def test_output_that_is_not_by_sample_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputsDiffer, match=f"^{re.escape(message)}$"):
        joined(**given)


def test_ranks_that_return_different_things_are_told_which() -> None:
    mine, theirs = joined(loss=torch.zeros(2)), joined(loss=torch.zeros(2, 3), more=["a", "b"])
    with pytest.raises(OutputsDiffer) as caught:
        require_same(mine.columns, theirs.columns, "rank 1 had")
    assert str(caught.value) == (
        "evaluate_batch: returned 'loss' (a row a sample, float32, shape []) where rank 1 had "
        "'loss' (a row a sample, float32, shape [3]); return the same names, types and shapes for "
        "every batch, or a list where they vary."
    )


def test_floats_are_no_counts() -> None:
    with pytest.raises(TypeError, match="return floats by sample, as a tensor"):
        Counts(torch.zeros(3))
