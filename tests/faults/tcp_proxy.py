"""A TCP proxy that can slow what is behind it, or cut it off: connections stay, nothing comes."""

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK = 65536


@dataclass
class TcpProxy:
    """From a free port of an address to another one of it."""

    port: int
    is_open: threading.Event = field(default_factory=threading.Event)
    delay_seconds: float = 0
    """How late each piece of what comes from behind is; it may be changed at any time."""
    host: str = "127.0.0.1"
    """An address of this machine."""

    def __post_init__(self) -> None:
        self.is_open.set()
        self._server = socket.create_server((self.host, 0))
        self.address = f"{self.host}:{self._server.getsockname()[1]}"
        self._start(self._accept)

    def cut(self) -> None:
        """From now on everything that comes is swallowed, in both directions and for good."""
        self.is_open.clear()

    def close(self) -> None:
        self.cut()
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                if not self.is_open.is_set():
                    self._start(self._swallow, near)
                    continue
                far = socket.create_connection((self.host, self.port))
                self._start(self._forward, near, far)
                self._start(self._forward, far, near, True)

    def _forward(
        self, source: socket.socket, target: socket.socket, is_answer: bool = False
    ) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if is_answer and self.delay_seconds:
                    time.sleep(self.delay_seconds)
                if not self.is_open.is_set():
                    self._swallow(source)
                    return
                target.sendall(data)
        if self.is_open.is_set():
            for each in (source, target):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _swallow(self, source: socket.socket) -> None:
        with suppress(OSError):
            while source.recv(CHUNK):
                pass

    def _start(self, target: object, *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()  # type: ignore[arg-type]
