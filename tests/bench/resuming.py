"""What one writes by hand to survive a killed rank: plain DDP that resumes from a file.

    torchrun --nproc-per-node 2 --max-restarts 1000 resuming.py CHECKPOINT EVERY_STEPS PAUSE_SECONDS

The network, the pace and the notes of the recipe `noted`. Rank 0 saves; all load.
"""

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.notes import Notebook


def train(path: Path, every: int, pause: float) -> None:
    """Until it is ended."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.AdamW(network.parameters())
    step = 0
    if path.exists():
        state = torch.load(path)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    model = DistributedDataParallel(network)
    rank = dist.get_rank()
    notebook = Notebook(rank)
    while True:
        time.sleep(pause)
        points = torch.randn(4, 16)
        optimizer.zero_grad()
        F.cross_entropy(model(points), points[:, :4].argmax(dim=1)).backward()
        optimizer.step()
        step += 1
        notebook.write(step)
        if step % every == 0 and rank == 0:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | {"step": step}, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)


def join() -> None:
    """init_process_group with a place of its own in torchrun's store for each restart.

    Without it, ranks that were restarted find the addresses of those that are gone, and lose 10 s
    or more before torchrun starts them once more (pytorch/pytorch#167288).
    """
    environ = os.environ
    address, port = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
    rank, size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    # torchrun serves the store itself, ft_launcher leaves it to rank 0.
    serves = rank == 0 and environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = dist.TCPStore(address, port, size, is_master=serves)
    own = dist.PrefixStore(f"restart-{environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("gloo", store=own, rank=rank, world_size=size)


if __name__ == "__main__":
    join()
    train(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
