import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trainyard_trainer.config import build_config
from trainyard_trainer.recipes.lung_nodule.config import Config
from trainyard_trainer.recipes.lung_nodule.inference import Reader
from trainyard_trainer.recipes.lung_nodule.sliding import View, Windows, averaged, blended, views

TYPES = ("flip_x", "flip_y", "flip_z", "rotate_90")
GRID_OF_WINDOWS = {
    "data": {"patch_size": [4, 4, 4], "stride": [4, 4, 1]},
    "model": {"depth": 2},
}
triples = st.tuples(*[st.integers(1, 6)] * 3)


def smooth(batch: Tensor) -> Tensor:
    """A network that looks around: what it says at a border depends on the window."""
    return torch.nn.functional.avg_pool3d(batch, 3, stride=1, padding=1)


class Counting(nn.Module):
    """`smooth`, and how many windows it was given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, batch: Tensor) -> Tensor:
        self.sizes.append(len(batch))
        return smooth(batch)


@settings(deadline=None, max_examples=40)
@given(shape=triples, size=triples, step=triples, blend=st.sampled_from(["gaussian", "constant"]))
def test_a_pointwise_network_is_the_same_in_windows(
    shape: tuple[int, int, int],
    size: tuple[int, int, int],
    step: tuple[int, int, int],
    blend: str,
) -> None:
    depth, height, width = (min(a, b) for a, b in zip(step, size, strict=True))
    windows = Windows(size=size, stride=(depth, height, width), blend=blend, batch_size=2)
    image = torch.rand(1, *shape)
    torch.testing.assert_close(blended(lambda one: 2 * one + 1, image, windows), 2 * image + 1)


def test_windows_go_through_the_network_as_many_at_once_as_configured() -> None:
    network = Counting()
    config = build_config(Config, [GRID_OF_WINDOWS, {"inference": {"windows_at_once": 3}}])
    image = torch.rand(1, 4, 4, 8)
    found = Reader(config, (4, 4, 4)).maps(network, image)
    one_by_one = Reader(build_config(Config, [GRID_OF_WINDOWS]), (4, 4, 4)).maps(network, image)
    assert network.sizes == [3, 2, *[1] * 5]
    torch.testing.assert_close(found, one_by_one)


@pytest.mark.slow
@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize("stride", [(4, 4, 4), (8, 4, 2)])
def test_blending_is_monais(blend: str, stride: tuple[int, int, int]) -> None:
    inferers = pytest.importorskip("monai.inferers")
    image = torch.rand(1, 13, 20, 18)
    size = (8, 8, 8)
    overlap = [max(0.0, 1 - (step + 1e-6) / side) for step, side in zip(stride, size, strict=True)]
    theirs = inferers.sliding_window_inference(
        image[None], size, 1, smooth, overlap=overlap, mode=blend
    )[0]
    ours = blended(smooth, image, Windows(size=size, stride=stride, blend=blend))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_scan_smaller_than_a_window_is_read_in_one() -> None:
    image = torch.rand(2, 3, 4, 5)
    found = blended(lambda one: one, image, Windows(size=(8, 8, 8), stride=(4, 4, 4)))
    torch.testing.assert_close(found, image)


@pytest.mark.parametrize("view", views(TYPES, 32), ids=str)
def test_undoing_a_view_gives_the_scan_back(view: View) -> None:
    maps = torch.rand(3, 2, 4, 5)
    assert torch.equal(view.undo(view.apply(maps)), maps)


@pytest.mark.parametrize("view", views(TYPES, 32), ids=str)
def test_vectors_of_the_heads_turn_back_with_their_scan(view: View) -> None:
    """A network that points at a bright voxel points there in any view."""
    scan = torch.zeros(1, 3, 5, 4)
    scan[0, 2, 1, 3] = 1

    def pointing(image: Tensor) -> Tensor:
        target = torch.nonzero(image[0])[0]
        grids = torch.meshgrid(*(torch.arange(n) for n in image.shape[1:]), indexing="ij")
        offsets = torch.stack([t - g for t, g in zip(target, grids, strict=True)]).float()
        sizes = offsets.abs()
        return torch.cat([image, offsets, sizes, image])

    torch.testing.assert_close(view.undo(pointing(view.apply(scan))), pointing(scan))


def test_views_begin_with_the_plain_one_and_none_comes_twice() -> None:
    found = views(TYPES, 8)
    assert found[0] == View()
    assert len(found) == 8
    # Three mirrors and a turn about z make the 16 symmetries of a square prism.
    assert len(views(TYPES, 32)) == 16
    assert [len(views(types, 8)) for types in (("flip_x",), ("rotate_90",), ())] == [2, 4, 1]


def test_average_over_mirrored_views_is_mirror_symmetric() -> None:
    weights = torch.rand(1, 1, 3, 3, 3)

    def network(batch: Tensor) -> Tensor:
        return torch.nn.functional.conv3d(batch, weights, padding=1)

    image, windows = torch.rand(1, 4, 4, 4), Windows(size=(4, 4, 4), stride=(4, 4, 4))
    over = views(("flip_x",), 8)
    found = averaged(network, image, windows, over)
    mirrored = averaged(network, image.flip(3), windows, over)
    torch.testing.assert_close(mirrored.flip(3), found)
