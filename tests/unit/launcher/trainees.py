"""Workers that stand in for training: what a fork server's ranks run in these tests."""

import os
import signal
import sys
import time

from trainyard_trainer.context import Rank
from trainyard_trainer.errors import ConfigurationError, PeerLost, Stopped


def succeed(rank: Rank) -> int:
    """Write through Python and through a descriptor, as C libraries do."""
    print(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}")
    os.write(2, b"from below Python\n")
    return 0


def save_when_told(rank: Rank) -> int:
    """Go on until SIGTERM, then end as a rank that saved a checkpoint."""
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    print("training", flush=True)
    while not told:
        time.sleep(0.01)
    raise Stopped("stopped on request after step 7; a checkpoint was saved")


def ignore_stop(rank: Rank) -> int:
    """Never end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("training", flush=True)
    while True:
        time.sleep(0.01)


def rank_1_dies(rank: Rank) -> int:
    """Rank 1 is killed; rank 0 notices."""
    if rank.global_rank == 1:
        print("about to die")
        os.kill(os.getpid(), signal.SIGKILL)
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    while not told:
        time.sleep(0.01)
    raise PeerLost("lost rank 1")


def raise_error(rank: Rank) -> int:
    """Fail as a user's code does."""
    raise ValueError("loss is NaN at step 3")


def refuse(rank: Rank) -> int:
    """Find a mistake that only a rank can find."""
    raise ConfigurationError("spec.config.data.path: no such folder '/nowhere'.")


def exit_directly(rank: Rank) -> int:
    """End by sys.exit, leaving a line without an end."""
    sys.stderr.write("giving up")
    sys.exit(3)


def leave_a_child(rank: Rank) -> int:
    """End while a process of its own still holds the output."""
    if os.fork() == 0:
        time.sleep(60)
    print("done")
    return 0


def die_at_first(rank: Rank) -> int:
    """Attempt 1 ends by SIGKILL, with a process of its own; later ones say how they were begun."""
    if rank.run.attempt == 1:
        ignore_stop_after(rank.global_rank == 1)
    token = os.environ.get("TRAINYARD_ORDER_TOKEN"), rank.run.order_token
    print(f"attempt {rank.run.attempt} at port {os.environ['MASTER_PORT']}, token {token}")
    return 0


def ignore_stop_after(dies: bool) -> None:
    """Leave a process behind, and die by SIGKILL or not at all."""
    if os.fork() == 0:
        print(f"helper {os.getpid()}", flush=True)
        time.sleep(60)
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(0.05)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def stay_until_attempt(rank: Rank) -> int:
    """Ignore requests to stop; end well in attempt 3."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"attempt {rank.run.attempt} runs", flush=True)
    while rank.run.attempt < 3:
        time.sleep(0.01)
    return 0


def lose_rank_1(rank: Rank) -> int:
    """Rank 1 dies in each attempt."""
    if rank.global_rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    return 0


def blame_a_peer(rank: Rank) -> int:
    """Rank 0 notices at once that rank 1 is about to fail."""
    if rank.global_rank == 0:
        raise PeerLost("lost rank 1")
    time.sleep(0.03)
    raise ValueError("loss is NaN at step 3")
