import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainyard_trainer.loader import Split
from trainyard_trainer.sampler import (
    ShuffledSampler,
    evaluation_share,
    mix,
    sample_generator,
    torch_seeded,
)

SIZES = st.integers(1, 200)
WORLDS = st.integers(1, 9)


def epoch_of(sampler: ShuffledSampler, epoch: int, batch_size: int, cursor: int = 0) -> list[int]:
    seen: list[int] = []
    while cursor < len(sampler):
        indices, cursor = sampler.take(epoch, cursor, batch_size)
        seen += indices.tolist()
    return seen


@given(
    size=SIZES, batch_size=st.integers(1, 50), seed=st.integers(0, 2**40), epoch=st.integers(0, 99)
)
def test_each_sample_comes_once_an_epoch(size: int, batch_size: int, seed: int, epoch: int) -> None:
    seen = epoch_of(ShuffledSampler(size, seed), epoch, batch_size)
    assert sorted(seen) == list(range(size))


@given(size=SIZES, batch_size=st.integers(1, 50), data=st.data())
def test_resume_at_any_cursor_gives_the_rest_of_the_same_order(
    size: int, batch_size: int, data: st.DataObject
) -> None:
    cursor = data.draw(st.integers(0, size))
    whole = epoch_of(ShuffledSampler(size, 7), 3, batch_size)
    assert epoch_of(ShuffledSampler(size, 7), 3, batch_size, cursor) == whole[cursor:]


@given(size=SIZES, batch_size=st.integers(1, 50), world=WORLDS, micro=st.integers(1, 20))
def test_any_world_size_sees_the_same_samples_in_the_same_steps(
    size: int, batch_size: int, world: int, micro: int
) -> None:
    sampler, cursor = ShuffledSampler(size, 1), 0
    while cursor < size:
        indices, cursor = sampler.take(0, cursor, batch_size)
        seen: list[int] = []
        gradient = torch.zeros(size, dtype=torch.float64)
        for rank in range(world):
            split = Split(
                rank=rank, world_size=world, batch_size=batch_size, micro_batch_size=micro
            )
            pieces, weights, counts = split.cut(indices)
            assert len(pieces) >= 1
            for piece, weight, count in zip(pieces, weights, counts, strict=True):
                seen += piece.tolist()[:count]
                # What a mean over the piece, weighted, and averaged over ranks, gives each sample.
                gradient[piece] += weight / len(piece) / world
        assert sorted(seen) == sorted(indices.tolist())
        torch.testing.assert_close(
            gradient[indices], torch.full_like(gradient[indices], 1 / len(indices))
        )


@given(size=st.integers(0, 200), world=WORLDS)
def test_evaluation_sees_each_sample_once_without_padding(size: int, world: int) -> None:
    shares = [list(evaluation_share(size, rank, world)) for rank in range(world)]
    assert sorted(index for share in shares for index in share) == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(size=SIZES, batch_size=st.integers(1, 50))
def test_last_step_has_from_half_a_batch_to_one_and_a_half(size: int, batch_size: int) -> None:
    sampler, cursor, counts = ShuffledSampler(size, 1), 0, []
    while cursor < size:
        indices, cursor = sampler.take(0, cursor, batch_size)
        counts.append(len(indices))
    assert len(counts) == sampler.steps(batch_size)
    assert set(counts[:-1]) <= {batch_size}
    assert counts == [size] or batch_size / 2 <= counts[-1] < 1.5 * batch_size


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        tuple(ShuffledSampler(50, seed).order(epoch).tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_order_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    ShuffledSampler(50, 1).order(0)
    assert torch.equal(before, torch.get_rng_state())


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=4))
def test_mixed_seed_fits_a_torch_generator(numbers: list[int]) -> None:
    assert 0 <= mix(*numbers) < 2**63


def test_augmentation_follows_from_seed_epoch_and_index() -> None:
    draws = {
        (seed, epoch, index): float(sample_generator(seed, epoch, index).random())
        for seed in (0, 1)
        for epoch in (0, 1)
        for index in (0, 1)
    }
    assert len(set(draws.values())) == 8
    assert float(sample_generator(1, 0, 1).random()) == draws[1, 0, 1]


def test_torch_seeded_draws_the_same_and_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    with torch_seeded(np.random.default_rng(5)):
        first = torch.rand(3)
    with torch_seeded(np.random.default_rng(5)):
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(before, torch.get_rng_state())
