"""resuming.py as Ray Train's guide has it: workers report a checkpoint, and are given it back.

python resuming_ray.py STORAGE EVERY_STEPS PAUSE_SECONDS
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.nn.functional as F
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.notes import Notebook


def train(config: dict[str, Any]) -> None:
    """A worker, until it is ended."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.AdamW(network.parameters())
    step = 0
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as directory:
            state = torch.load(Path(directory) / "state.pt")
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    model = ray.train.torch.prepare_model(network)
    rank = ray.train.get_context().get_world_rank()
    notebook = Notebook(rank)
    while True:
        time.sleep(config["pause"])
        points = torch.randn(4, 16)
        optimizer.zero_grad()
        F.cross_entropy(model(points), points[:, :4].argmax(dim=1)).backward()
        optimizer.step()
        step += 1
        notebook.write(step)
        if step % config["every"] == 0:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            report(rank, state | {"step": step})


def report(rank: int, state: dict[str, Any]) -> None:
    """Every worker reports, the first one with a checkpoint."""
    with tempfile.TemporaryDirectory() as directory:
        if rank == 0:
            torch.save(state, Path(directory) / "state.pt")
        checkpoint = Checkpoint.from_directory(directory) if rank == 0 else None
        ray.train.report({"step": state["step"]}, checkpoint=checkpoint)


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    ray.train.torch.TorchTrainer(
        train,
        train_loop_config={"every": int(sys.argv[2]), "pause": float(sys.argv[3])},
        scaling_config=ScalingConfig(num_workers=2, use_gpu=False),
        run_config=RunConfig(
            name="resuming",
            storage_path=sys.argv[1],
            failure_config=FailureConfig(max_failures=-1),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    ).fit()
