"""Waiting for the storage to be touched, and holding whoever touches it until the blow.

What is waited for is a pattern of `<operation> <key>`, the key relative to the run. Operations:
read; write, which has begun; publish, when all is written and the object not yet there; published,
when it is there and its writer does not know. For the node's memory they begin with `memory-`.
"""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from faults.s3_proxy import Cut, Exchange, S3Proxy

HELD_SECONDS = 30.0


class Wire(Protocol):
    """Goes off once for each time it is armed."""

    def arm(self, pattern: str) -> None:
        """From now on."""

    def is_tripped(self) -> bool:
        """Whether somebody is held."""

    def release(self) -> None:
        """Let go of whoever still lives."""


class Wires:
    """Several, of which one goes off."""

    def __init__(self, *wires: Wire) -> None:
        self._wires = wires

    def arm(self, pattern: str) -> None:
        """All."""
        for wire in self._wires:
            wire.arm(pattern)

    def is_tripped(self) -> bool:
        """Whether one is."""
        return any(wire.is_tripped() for wire in self._wires)

    def release(self) -> None:
        """All."""
        for wire in self._wires:
            wire.release()


class FolderWire:
    """For file:// storage and the nodes' memory: ranks hold themselves, see chaos_witness."""

    def __init__(self, place: Path) -> None:
        self._armed, self._held = place / "armed", place / "held"

    def arm(self, pattern: str) -> None:
        """In one step, or a rank would read half of it."""
        draft = self._armed.with_suffix(".draft")
        draft.write_text(pattern)
        draft.rename(self._armed)

    def is_tripped(self) -> bool:
        """Whether a rank renamed the file."""
        return self._held.exists()

    def release(self) -> None:
        """Also where nobody came."""
        self._armed.unlink(missing_ok=True)
        self._held.unlink(missing_ok=True)


class ProxyWire:
    """For S3, in the proxy: requests of one run, whose objects lie below `prefix`.

    The connection of who is held breaks with the blow: half of an upload has reached the server,
    or all of it and no answer comes back.
    """

    def __init__(self, proxy: S3Proxy, prefix: str) -> None:
        self._pattern: str | None = None
        self._lock = threading.Lock()
        self._tripped, self._released = threading.Event(), threading.Event()
        proxy.add(self._act, key=f"{prefix}/*")

    def arm(self, pattern: str) -> None:
        """The next request that matches is held."""
        self._tripped.clear()
        self._released.clear()
        self._pattern = pattern

    def is_tripped(self) -> bool:
        """Whether a request waits."""
        return self._tripped.is_set()

    def release(self) -> None:
        """Also where nobody came."""
        self._pattern = None
        self._released.set()

    def _act(self, exchange: Exchange) -> None:
        # <prefix>/<namespace>/<job>/<uid>/<key>
        key = exchange.request.key.split("/", 4)[-1]
        if exchange.request.method == "GET" and self._is_meant(f"read {key}"):
            self._hold()
        elif exchange.request.method != "PUT":
            pass
        elif self._is_meant(f"write {key}"):
            pieces = self._half(exchange.body)
            exchange.body = lambda: pieces  # type: ignore[method-assign]
        elif self._is_meant(f"publish {key}"):
            for _ in exchange.body():
                pass
            self._hold()
        elif self._is_meant(f"published {key}"):
            with exchange.answered() as response:
                response.read()
            self._hold()
        exchange.forward()

    def _half(self, body: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
        """The first half of the first piece is all that the server gets."""
        first = next(body())
        yield first[: len(first) // 2]
        self._hold()

    def _is_meant(self, touched: str) -> bool:
        """Only one request is."""
        with self._lock:
            if self._pattern is None or not re.search(self._pattern, touched):
                return False
            self._pattern = None
            return True

    def _hold(self) -> None:
        self._tripped.set()
        self._released.wait(HELD_SECONDS)
        raise Cut
