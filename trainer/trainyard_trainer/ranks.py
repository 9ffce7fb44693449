"""The launcher's side of the rank processes of one node: start them, signal them, hear of them."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.reduction import send_handle
from pathlib import Path

from trainyard_operator.contract import Env
from trainyard_trainer import cgroup
from trainyard_trainer.context import Failure, Rank, RunContext, failure_file, pid_file
from trainyard_trainer.fork_server import Message, Preload, RankEnded, RankStarted
from trainyard_trainer.rank_process import ForkRequest

WORKER = "trainyard_trainer.worker:run_rank"
LIBRARIES = (
    "torch",
    "torch.distributed",
    "torch.optim",
    "torch.nn.parallel",
    # What a first name lookup, backward pass and torch.save import by themselves.
    "encodings.idna",
    "torch.nested._internal.nested_tensor",
    "torch.utils.serialization.config",
)
_LOOPBACK = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
_SERVE = "from trainyard_trainer.fork_server import serve; serve({descriptor}, {launcher_pid})"


class ForkServer:
    """The fork server process, which begins to import at once."""

    def __init__(self, preload: Preload, processes: int = 1) -> None:
        """processes: how many ranks will share the machine's processors."""
        self._connection, theirs = Pipe()
        self.output, output = os.pipe()
        """Descriptor to read what the imports print."""
        os.set_blocking(self.output, False)
        self.pid = _spawn(theirs.fileno(), output, _environ(processes))
        theirs.close()
        os.close(output)
        self._connection.send((sys.path, preload))

    def fileno(self) -> int:
        """Readable when `receive` has something."""
        return self._connection.fileno()

    def fork(self, request: ForkRequest) -> int:
        """Have a rank started; returns the descriptor to read its output from.

        Raises EOFError once the fork server is gone.
        """
        output, theirs = os.pipe()
        os.set_blocking(output, False)
        try:
            self._connection.send(request)
            send_handle(self._connection, theirs, self.pid)
        except OSError as error:
            os.close(output)
            raise EOFError from error
        finally:
            os.close(theirs)
        return output

    def receive(self) -> Message:
        """The next message, waiting for it. Raises EOFError once the fork server is gone."""
        try:
            message: Message = self._connection.recv()
        except OSError as error:
            raise EOFError from error
        return message

    def kill(self) -> None:
        """End it, and with it every rank."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Ranks:
    """The rank processes of this node, in their current attempt."""

    def __init__(self, scratch: Path, server: ForkServer, target: str = WORKER) -> None:
        self._scratch, self._server, self._target = scratch, server, target
        self._pids: dict[int, int] = {}
        self._waiting: set[int] = set()
        self._pending: signal.Signals | None = None

    @property
    def pids(self) -> Mapping[int, int]:
        """Process id of each running rank, by its global rank."""
        return self._pids

    @property
    def alive(self) -> set[int]:
        """Global ranks that were started and have not ended."""
        return {*self._waiting, *self._pids}

    def start(self, run: RunContext) -> dict[int, int]:
        """Start all ranks of this node; returns the descriptor of each one's output.

        To restart in place, call it again with the next attempt once none is alive.
        """
        run = dataclasses.replace(run, order_token=None)  # Not for the program that trains.
        self._pending = None
        outputs = {}
        for local_rank in range(run.processes_per_node):
            rank = Rank(run=run, local_rank=local_rank)
            failure_file(run.scratch, rank.global_rank).unlink(missing_ok=True)
            request = ForkRequest(rank=rank, target=self._target, environ=rank_environ(rank))
            outputs[rank.global_rank] = self._server.fork(request)
            self._waiting.add(rank.global_rank)
        return outputs

    def note(self, message: RankStarted | RankEnded) -> None:
        """Keep account of what the fork server says."""
        path = pid_file(self._scratch, message.rank)
        if isinstance(message, RankStarted):
            self._waiting.discard(message.rank)
            self._pids[message.rank] = message.pid
            path.write_text(str(message.pid))
            if self._pending is not None:
                self._kill(message.pid, self._pending)
        else:
            pid = self._pids.pop(message.rank)
            path.unlink(missing_ok=True)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # Loaders that it left hold its output open.

    def failure(self, rank: int) -> Failure | None:
        """What an ended rank says of itself."""
        try:
            return Failure(**json.loads(failure_file(self._scratch, rank).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def send(self, number: signal.Signals) -> None:
        """Signal every rank; one that is still to be forked gets it as soon as it is."""
        self._pending = number
        for pid in self._pids.values():
            self._kill(pid, number)

    @staticmethod
    def _kill(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, as by SIGSTOP; False where nobody can tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def rank_environ(rank: Rank) -> dict[str, str]:
    """What torch.distributed reads, as torchrun would set it."""
    run = rank.run
    environ = {
        "RANK": str(rank.global_rank),
        "LOCAL_RANK": str(rank.local_rank),
        "WORLD_SIZE": str(run.world_size),
        "LOCAL_WORLD_SIZE": str(run.processes_per_node),
        "GROUP_RANK": str(run.node_index),
        "MASTER_ADDR": run.master_addr,
        "MASTER_PORT": str(run.master_port),
    }
    if run.is_local and _LOOPBACK and "GLOO_SOCKET_IFNAME" not in os.environ:
        # Else gloo looks this machine's name up, which takes seconds where no server knows it.
        environ["GLOO_SOCKET_IFNAME"] = _LOOPBACK
    return environ


def _environ(processes: int) -> dict[str, str]:
    """What the fork server's imports must find, since libraries read it once."""
    share = max(1, cgroup.processors() // processes)
    environ = {
        # torch.cuda.is_available() would else initialise CUDA, which no fork survives.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "OMP_NUM_THREADS": str(share),
        # torch's store asks a name server about each peer's address, and waits 5 s for an answer
        # that was lost (github.com/pytorch/pytorch/issues/159007).
        "RES_OPTIONS": "timeout:1 attempts:3",
        **os.environ,
    }
    environ.pop(Env.ORDER_TOKEN, None)
    return environ


def _spawn(connection: int, output: int, environ: dict[str, str]) -> int:
    os.set_inheritable(connection, True)
    code = _SERVE.format(descriptor=connection, launcher_pid=os.getpid())
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", code],
        environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)],
        setsid=True,  # Ctrl-C in a terminal is for the launcher alone.
    )
