"""The storage under the runs: a folder for each, or a bucket of a real S3 server, proxied."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from chaos.wire import FolderWire, ProxyWire, Wire, Wires
from cluster.s3 import S3
from faults.s3_actions import refuse_batch_delete, refuse_conditions
from faults.s3_proxy import S3Proxy

from trainyard_trainer.storage import Storage, open_storage

BUCKET = "chaos"


class Depot(Protocol):
    """Where runs keep what they save."""

    def spec(self, root: Path) -> dict[str, str]:
        """spec.storage of the run in `root`."""

    def open(self, root: Path) -> Storage:
        """The same, opened."""

    def wire(self, root: Path) -> Wire:
        """To hold who touches it."""


class Folders:
    """file://"""

    def spec(self, root: Path) -> dict[str, str]:
        """Beside the run's other files."""
        return {"uri": (root / "store").as_uri()}

    def open(self, root: Path) -> Storage:
        """What `spec` names."""
        return open_storage(self.spec(root)["uri"])

    def wire(self, root: Path) -> Wire:
        """In the ranks."""
        return FolderWire(root)


class Buckets:
    """s3://, through the proxy."""

    def __init__(self, proxy: S3Proxy, compat: str) -> None:
        self._proxy, self._compat = proxy, compat

    def spec(self, root: Path) -> dict[str, str]:
        """A prefix in the bucket."""
        uri = f"s3://{BUCKET}/{root.name}"
        return {"uri": uri, "endpoint": self._proxy.access.endpoint, "compat": self._compat}

    def open(self, root: Path) -> Storage:
        """What `spec` names."""
        return open_storage(**self.spec(root))

    def wire(self, root: Path) -> Wire:
        """In the proxy; in the ranks for what lies in the node's memory."""
        return Wires(FolderWire(root), ProxyWire(self._proxy, root.name))


@contextmanager
def open_depots(place: Path) -> Iterator[dict[str, Depot]]:
    """All kinds, by name, as long as the block lasts; the two of S3 are one server.

    legacy: it refuses conditional writes and batch deletes.
    """
    with ExitStack() as stack:
        access = stack.enter_context(S3(place / "buckets"))
        proxies = [stack.enter_context(S3Proxy(access)) for _ in range(2)]
        stack.enter_context(environment(access.environment()))
        access.client().create_bucket(Bucket=BUCKET)
        refuse_conditions(proxies[1])
        refuse_batch_delete(proxies[1])
        yield {
            "file": Folders(),
            "s3": Buckets(proxies[0], "strict"),
            "legacy": Buckets(proxies[1], "legacy"),
        }


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Of this process and its children, while the block runs."""
    before = dict(os.environ)
    os.environ |= values
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before
