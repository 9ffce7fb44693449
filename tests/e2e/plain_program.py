"""Counts steps over two ranks with torch.distributed, and knows nothing of Trainyard.

Reports as Transformers' KubeflowCallback does: the same variables, token, address and body.
"""

import json
import os
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.distributed as dist

STEPS = 40


def report(step: int, loss: float) -> None:
    """What `_update_status` of the callback sends."""
    url = os.environ["KUBEFLOW_TRAINER_SERVER_URL"]
    token = Path(os.environ["KUBEFLOW_TRAINER_SERVER_TOKEN"]).read_text().strip()
    metrics = {"loss": loss, "current_step": step, "total_steps": STEPS, "current_epoch": 0.5}
    status = {
        "lastUpdatedTime": datetime.now(UTC).isoformat(),
        "progressPercentage": max(0, min(100, 100 * step // STEPS)),
        "estimatedRemainingSeconds": (STEPS - step) // 4,
        "metrics": [{"name": str(name), "value": str(value)} for name, value in metrics.items()],
    }
    data = json.dumps({"trainerStatus": status}).encode("utf-8")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=5, context=None) as response:
        assert response.status == 200


def main() -> None:
    """Train a single weight; save it every ten steps, as people do."""
    folder = Path(os.environ["TRAINYARD_CHECKPOINT_DIR"])
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    saved = folder / "state.pt"
    is_first = not saved.exists()
    state = {"step": 0, "weight": torch.zeros(1)} if is_first else torch.load(saved)
    print(f"rank {rank} begins at step {state['step']}", flush=True)
    for step in range(state["step"] + 1, STEPS + 1):
        update = torch.ones(1)
        dist.all_reduce(update)
        state = {"step": step, "weight": state["weight"] + update}
        if rank == 0:
            report(step, 1 / step)
            if step % 10 == 0:
                torch.save(state, saved)
        time.sleep(0.1)
        if is_first and step == 30:
            time.sleep(600)  # The test kills it.
    print(f"rank {rank} ends with weight {state['weight'].item():g}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
