"""A measurement in a process of its own, whose memory is then its own, too."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PATIENCE_SECONDS = 600
LAST_WORDS = 15
"""Lines."""


def run_apart(command: Sequence[str | Path], log: Path, threads: int | None = None) -> None:
    """Run a Python script to its end. threads: None means as many as a rank takes by itself.

    Raises RuntimeError with its last words where it fails.
    """
    environment = {name: text for name, text in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with log.open("wb") as output:
        done = subprocess.run(
            [sys.executable, *command],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            timeout=PATIENCE_SECONDS,
        )
    if done.returncode:
        raise RuntimeError(f"{how(done.returncode)}:\n{last_words(log)}")


def how(code: int) -> str:
    """It ended."""
    if code == -9:
        return "it was killed, as the kernel does where memory is short"
    return f"it ended with {code}"


def last_words(log: Path) -> str:
    """Of a process."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LAST_WORDS:])
