"""The gang of ranks: joining it, and asking all of it.

A run of one rank has no process group: nothing here then costs anything.
"""

import datetime
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from trainyard_trainer.context import Rank
from trainyard_trainer.errors import ConfigurationError, PeerLost
from trainyard_trainer.gang import Gang
from trainyard_trainer.watchdog import SLOW_FACTOR

_T = TypeVar("_T")

JOIN_TIMEOUT_SECONDS = 300
"""How long ranks wait for one another at the start, names of new pods included."""

_PEER_FAILURES = re.compile(
    r"gloo/|\[c10d\]|NCCL|ProcessGroup|Connection (closed|reset) by peer|Broken pipe"
)


@dataclass(frozen=True, kw_only=True)
class World:
    """This rank among the others."""

    rank: int
    world_size: int
    device: torch.device
    side: "dist.ProcessGroup | None" = None
    """A gloo group for the main thread's agreements, metrics and barriers; None alone."""
    gang: Gang
    """A gloo group for the checkpoint thread."""

    @property
    def is_first(self) -> bool:
        """Whether this rank reports for all."""
        return self.rank == 0

    def gather(self, value: _T) -> list[_T]:
        """Every rank's value, on every rank."""
        if self.side is None:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.side)
        return values

    def any(self, is_so: bool) -> bool:
        """Whether it is so on any rank."""
        if self.side is None:
            return is_so
        vote = torch.tensor([is_so], dtype=torch.int64)
        dist.all_reduce(vote, op=dist.ReduceOp.MAX, group=self.side)
        return bool(vote.item())

    def gather_first(self, value: _T) -> list[_T]:
        """Every rank's value on rank 0, nothing elsewhere."""
        if self.side is None:
            return [value]
        values: list[Any] | None = [None] * self.world_size if self.is_first else None
        dist.gather_object(value, values, dst=0, group=self.side)
        return values or []

    def add_up_first(self, numbers: Tensor) -> Tensor:
        """The sum of all ranks' tensors on rank 0, in place; elsewhere of no use. On the CPU."""
        if self.side is not None:
            dist.reduce(numbers, dst=0, group=self.side)
        return numbers

    def from_first(self, value: _T) -> _T:
        """Rank 0's value on every rank."""
        if self.side is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.side)
        return values[0]

    def barrier(self) -> None:
        """Return once all ranks are here."""
        if self.side is not None:
            dist.barrier(group=self.side)

    def leave(self) -> None:
        """After a barrier, on the way to a good end only: on any other it would hang."""
        if self.side is not None:
            self.barrier()
            dist.destroy_process_group()


def choose_device(wanted: str, local_rank: int) -> torch.device:
    """training.device for this rank. Raises ConfigurationError."""
    if wanted == "mps":
        if torch.backends.mps.is_available():
            return torch.device("mps")
        raise ConfigurationError(
            "spec.config.training.device: there is no Apple GPU (mps) here; write 'auto'."
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        if wanted == "cuda":
            raise ConfigurationError(
                "spec.config.training.device: CUDA not available; request GPUs in "
                "spec.resources, or write 'auto'."
            )
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ConfigurationError(
            f"spec.processesPerNode: local rank {local_rank} has no GPU, there are "
            f"{torch.cuda.device_count()}; write 'auto'."
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def join(rank: Rank, device: torch.device) -> World:
    """Meet the other ranks. Raises PeerLost where they do not come in time."""
    run, size = rank.run, rank.run.world_size
    if size == 1:
        return World(rank=0, world_size=1, device=device, gang=Gang())
    deadline = time.monotonic() + JOIN_TIMEOUT_SECONDS
    wait_for_name(run.master_addr, deadline)
    if not rank.is_first:
        wait_for_store(run.master_addr, run.master_port, deadline)
    try:
        side, background = _form_groups(rank, device)
    except (RuntimeError, ValueError) as error:
        raise PeerLost(
            f"Rank {rank.global_rank} could not join {size} ranks at "
            f"{run.master_addr}:{run.master_port}: {_first_line(error)}."
        ) from error
    gang = Gang(rank.global_rank, size, background, side)
    return World(rank=rank.global_rank, world_size=size, device=device, side=side, gang=gang)


def _form_groups(rank: Rank, device: torch.device) -> tuple[dist.ProcessGroup, dist.ProcessGroup]:
    """Training's group becomes torch's default; returns those of the main and another thread."""
    run = rank.run
    store = dist.TCPStore(
        run.master_addr,
        run.master_port,
        run.world_size,
        is_master=rank.is_first,
        timeout=datetime.timedelta(seconds=JOIN_TIMEOUT_SECONDS),
    )
    # The watchdog speaks first: its message names the place that hangs.
    patience = SLOW_FACTOR * run.request.stall_timeout_seconds + 60
    timeout = datetime.timedelta(seconds=patience)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank.global_rank,
        world_size=run.world_size,
        timeout=timeout,
        device_id=device if device.type == "cuda" else None,
    )
    # In the same order on every rank; each purpose has its own, so that they cannot meet.
    return _gloo(timeout), _gloo(datetime.timedelta(hours=2))


def _gloo(timeout: datetime.timedelta) -> dist.ProcessGroup:
    group = dist.new_group(backend="gloo", timeout=timeout)
    if not isinstance(group, dist.ProcessGroup):
        raise RuntimeError("this rank is not in its own gang")
    return group


def wait_for_name(
    host: str, deadline: float, resolve: Callable[[str, None], Any] = socket.getaddrinfo
) -> None:
    """A pod's name resolves only a while after it was created. Raises PeerLost at the deadline."""
    pause = 0.05
    while True:
        try:
            resolve(host, None)
        except OSError as error:
            if time.monotonic() + pause > deadline:
                raise PeerLost(
                    f"The first node's name '{host}' does not resolve: {error}."
                ) from error
            time.sleep(pause)
            pause = min(2.0, pause * 1.5)
        else:
            return


def wait_for_store(host: str, port: int, deadline: float) -> None:
    """Rank 0 may listen a moment later; torch's own client sleeps half a second between tries.

    Raises PeerLost at the deadline.
    """
    pause = 0.005
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as error:
            if time.monotonic() + pause > deadline:
                raise PeerLost(f"Rank 0 does not listen at {host}:{port}: {error}.") from error
            time.sleep(pause)
            pause = min(0.25, pause * 1.2)
        else:
            # Both ends now ask a name server who came: two questions at once get lost more often.
            time.sleep(0.02)
            return


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error tells of another rank's end rather than of this one's."""
    if isinstance(error, PeerLost | dist.DistBackendError | dist.DistNetworkError):
        return True
    if type(error) is not RuntimeError or not dist.is_initialized():
        return False
    return bool(_PEER_FAILURES.search(str(error)))


def lost_peer(error: BaseException) -> PeerLost:
    """An error of the communication library in a sentence."""
    if isinstance(error, PeerLost):
        return error
    return PeerLost(f"The connection to another rank broke: {_first_line(error)}.")


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return re.sub(r"^\[[^\]]*\]\s*", "", line).split(". ")[0].rstrip(". ")[:200]
