"""What is averaged does not depend on when somebody looked at it, or on a restart."""

import random

import torch

from trainyard_trainer.metrics import Meter

LOSSES = [random.Random(step).uniform(0, 10) for step in range(1, 31)]
WINDOW = 10


def collect(look_at: set[int], restart_at: int | None = None) -> list[object]:
    """Every window's means and the epoch's sums; read at more steps than that, and saved at one."""
    meter, found = Meter(), []
    for step, loss in enumerate(LOSSES, 1):
        meter.add_loss("loss", torch.tensor(loss), 3, step)
        if step in look_at:
            meter.read()
        if step % WINDOW == 0:
            found.append(meter.read())
            meter.next_window()
        if step == restart_at:
            meter.read()
            saved, meter = meter.state_dict(), Meter()
            meter.load_state_dict(saved)
    return [*found, meter.sums]


def test_looking_more_often_changes_no_bit() -> None:
    plain = collect(set())
    assert len(plain) == 4
    assert all(collect(set(random.Random(n).sample(range(1, 31), 9))) == plain for n in range(20))


def test_a_restart_in_the_middle_of_a_window_changes_no_bit() -> None:
    assert all(collect(set(), restart_at=step) == collect(set()) for step in range(1, 31))


def test_an_epoch_begins_with_an_empty_window() -> None:
    meter = Meter()
    meter.add("loss", torch.tensor(5.0), 1, 1)
    meter.read()
    meter.reset()
    meter.add("loss", torch.tensor(1.0), 1, 2)
    assert (meter.read(), meter.sums) == ({"loss": 1.0}, {"loss": (1.0, 1)})
