"""What a rank's process does around the worker: output, environment, exit code."""

import contextlib
import ctypes
import importlib
import json
import multiprocessing
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from trainyard_operator.contract import Cause
from trainyard_trainer.context import Failure, Rank, failure_file
from trainyard_trainer.errors import TrainyardError

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True)
class ForkRequest:
    """One rank to start."""

    rank: Rank
    target: str
    """`module:function`; called with the Rank, returns the exit code or None for 0."""
    environ: dict[str, str]
    """Added to the environment of the rank."""


def die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends, however that ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of what ended ranks leave behind."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def live(request: ForkRequest, output: int, parent_pid: int) -> NoReturn:
    """The whole life of a rank, in the child of a fork.

    output: descriptor that takes stdout and stderr, those of C libraries too.
    """
    code = 1
    try:
        os.setpgid(0, 0)  # What the rank starts can be killed with it.
        die_with(parent_pid)
        _redirect(output)
        os.environ.update(request.environ)
        code = _call(request)
        for child in multiprocessing.active_children():
            child.terminate()
    except BaseException:
        traceback.print_exc()
    finally:
        # Not sys.exit: at the end of an interpreter, threads of gloo and NCCL abort or hang.
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _redirect(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for source, standard in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, standard)
    os.close(null)
    os.close(output)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _call(request: ForkRequest) -> int:
    """Run the worker; a rank that fails leaves a Failure, its own or this one."""
    module, _, function = request.target.partition(":")
    path = failure_file(request.rank.run.scratch, request.rank.global_rank)
    try:
        return int(getattr(importlib.import_module(module), function)(request.rank) or 0)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except TrainyardError as error:
        print(error, file=sys.stderr)
        _leave_failure(
            path, Failure(exit_code=error.exit_code, cause=error.cause, message=str(error))
        )
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        text = "".join(traceback.format_exception_only(error)).strip()
        _leave_failure(path, Failure(exit_code=1, cause=Cause.USER_EXIT, message=text))
        return 1


def _leave_failure(path: Path, failure: Failure) -> None:
    with contextlib.suppress(OSError):
        if not path.exists():
            path.write_text(json.dumps(failure.to_dict()))
