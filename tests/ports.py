"""TCP ports for servers that tests start.

A port that was only found free may be taken before its server listens: by another test, or by an
outgoing connection. So these lie where the kernel gives none to connections, and a port belongs to
the process that got it until that process ends.
"""

import random
import socket
from collections.abc import Iterator

_RANGE = range(20_000, 30_000)
"""Above those of `trainyard run`, below Kubernetes' node ports and the ephemeral ones."""
_claims: list[socket.socket] = []
"""Names that the kernel frees with this process, whichever way it ends."""


def free_port(address: str = "127.0.0.1") -> int:
    """One that nothing listens on, and that no other process of tests gets."""
    return next(port for port in _draws() if _claim(port) and _is_free(address, port))


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """Several, all different."""
    return [free_port(address) for _ in range(count)]


def _draws() -> Iterator[int]:
    """From the system's own source: tests seed the other one."""
    while True:
        yield random.SystemRandom().choice(_RANGE)


def _claim(port: int) -> bool:
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0trainyard-test-port-{port}")  # Abstract: it leaves no file.
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((address, port))
        except OSError:
            return False
    return True
