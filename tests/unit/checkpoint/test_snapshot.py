import enum

import pytest
import torch

from trainyard_trainer.snapshot import Snapshot, Toucher, write_snapshot


class Colour(enum.IntEnum):
    RED = 3


def test_the_next_copy_uses_the_same_memory():
    snapshot, weight = Snapshot(), torch.zeros(8)
    first = snapshot.take({"w": weight})["w"]
    weight.fill_(1)
    assert first.sum() == 0
    second = snapshot.take({"w": weight})["w"]
    assert second.data_ptr() == first.data_ptr()
    assert second.sum() == 8


def test_a_tensor_of_another_shape_gets_other_memory():
    snapshot = Snapshot()
    snapshot.take({"w": torch.zeros(8)})
    assert snapshot.take({"w": torch.ones(2, 3)})["w"].shape == (2, 3)


def test_memory_of_what_is_gone_is_not_kept():
    snapshot = Snapshot()
    snapshot.take({"w": torch.zeros(8), "v": torch.zeros(8)})
    snapshot.take({"w": torch.zeros(8)})
    assert list(snapshot._buffers) == ["w"]


def test_a_copy_takes_no_part_in_autograd():
    copy = Snapshot().take([torch.nn.Parameter(torch.ones(2))])[0]
    assert (type(copy), copy.requires_grad) == (torch.Tensor, False)


def test_an_enum_becomes_its_number():
    copy = Snapshot().take({"c": Colour.RED})
    assert (copy, type(copy["c"])) == ({"c": 3}, int)


def test_an_error_of_storage_is_raised_as_it_is():
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def flush(self):
            pass

    with pytest.raises(OSError, match="No space left"):
        write_snapshot({"w": torch.ones(1000)}, Full())


def test_buffers_made_before_are_those_of_the_first_copy():
    snapshot, state = Snapshot(), {"w": torch.ones(8), "n": 3}
    (buffer,) = snapshot.prepare(state)
    assert snapshot.prepare(state) == []
    Toucher([buffer]).wait()
    copy = snapshot.take(state)
    assert copy["w"].data_ptr() == buffer.data_ptr()
    assert copy["w"].sum() == 8
    assert snapshot.size_bytes == 32


def test_touching_ends_when_it_is_told_to():
    toucher = Toucher([torch.ones(50_000_000)])
    toucher.stop()
    assert not toucher._thread.is_alive()


def test_strides_survive():
    weight = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    expanded = torch.rand(3, 1).expand(3, 4)
    copy = Snapshot().take({"w": weight, "e": expanded})
    assert copy["w"].stride() == weight.stride()
    assert torch.equal(copy["w"], weight)
    assert torch.equal(copy["e"], expanded)


def test_threads_are_as_many_as_before():
    before = torch.get_num_threads()
    Snapshot().take({"w": torch.ones(8)})
    assert torch.get_num_threads() == before
