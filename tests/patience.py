"""How long tests are ready to wait for what comes soon on an idle machine.

They guard against hanging and claim nothing of the product: on a busy machine, or a slow one, what
takes processor time may take a hundred times as long. What is waited for ends the wait at once.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_SECONDS = 120.0
"""For one thing to happen in a process that already runs."""
HANG_SECONDS = 900.0
"""For a process, or a gang of them, to start, train and end."""
BUSY = 3
"""Times that the machine is late with something small, it may be late with what is tested."""


@contextmanager
def lateness(file: Path) -> Iterator[Callable[[], float]]:
    """Tells how many seconds a busy machine may be late with what has to come in time.

    Measured meanwhile: how much too long it takes to wake up and to store a small file.
    """
    late, is_over = [0.0], threading.Event()

    def look() -> None:
        while not is_over.is_set():
            began = time.monotonic()
            is_over.wait(0.05)
            with file.open("wb") as target:
                target.write(b"x")
                os.fsync(target)
            late.append(time.monotonic() - began - 0.05)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield lambda: BUSY * max(late)
    finally:
        is_over.set()
        watch.join()
