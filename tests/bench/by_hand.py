"""What one writes by hand: DistributedDataParallel over the digits, run by torchrun.

    torchrun --nproc-per-node 2 by_hand.py digits.pt FIRST_STEP_DIRECTORY

digits.pt: a tensor of images, (N, 3, 32, 32) uint8, and one of classes, (N,).
"""

import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

BATCH_SIZE = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_network() -> nn.Sequential:
    """24,346 parameters."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def train(images: Tensor, classes: Tensor, directory: Path) -> None:
    """One epoch; rank r leaves the time of its first step in `directory`."""
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    network = DistributedDataParallel(build_network())
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    order = torch.randperm(len(images))
    for step, batch in enumerate(order.split(BATCH_SIZE)):
        mine = batch[rank::size]
        optimizer.zero_grad()
        logits = network((images[mine].float() / 255 - mean) / std)
        F.cross_entropy(logits, classes[mine]).backward()
        optimizer.step()
        if step == 0:
            (directory / str(rank)).write_text(repr(time.time()))


if __name__ == "__main__":
    dist.init_process_group("gloo")
    images, classes = torch.load(sys.argv[1])
    train(images, classes, Path(sys.argv[2]))
    dist.barrier()
    dist.destroy_process_group()
