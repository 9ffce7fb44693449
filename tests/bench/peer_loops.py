"""The loops of others, as their own guides write them, in turns.

    python peer_loops.py fabric|trainer|accelerate mlp|digits DIGITS.pt

Lean on purpose: no logger, no checkpoints, no progress bar, no metrics, the batches as the raw loop
has them and not through a DataLoader.
"""

import gc
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.baton import Baton
from bench.workload import Work, build_work


def fabric(work: Work, baton: Baton) -> None:
    """Lightning Fabric: its wrappers around network, optimizer and backward pass."""
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    network, optimizer = fabric.setup(work.network, work.optimizer)
    for step, batch in enumerate(work):
        baton.step()
        optimizer.zero_grad()
        fabric.backward(work.loss(network, batch))
        work.set_rate(step)
        optimizer.step()


def trainer(work: Work, baton: Baton) -> None:
    """Lightning's Trainer: its loop."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = work.network

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            baton.step()
            work.set_rate(index)
            return work.loss(self.network, batch)

        def configure_optimizers(self) -> Any:
            return work.optimizer

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), work)


def accelerate(work: Work, baton: Baton) -> None:
    """Hugging Face Accelerate: its wrappers around network, optimizer and backward pass."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    network, optimizer = accelerator.prepare(work.network, work.optimizer)
    for step, batch in enumerate(work):
        baton.step()
        optimizer.zero_grad()
        accelerator.backward(work.loss(network, batch))
        work.set_rate(step)
        optimizer.step()


LOOPS = {"fabric": fabric, "trainer": trainer, "accelerate": accelerate}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    gc.freeze()
    work = build_work(sys.argv[2], Path(sys.argv[3]))
    LOOPS[sys.argv[1]](work, Baton(work.turn))
