import enum

import pytest
import torch

from trainyard_trainer.snapshot import Snapshot, write_snapshot


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
