"""What jobs and sweeps have in common, wherever they live."""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from trainyard.errors import NotFound
from trainyard.state import LocalJob

if TYPE_CHECKING:
    from trainyard.cluster import Cluster

POLL_SECONDS = 0.1
MOST_POLLS = 100
"""Of a name that is to become free."""


@dataclass(frozen=True)
class Resource(ABC):
    """An object of the cluster, or of this machine, as it was read a moment ago."""

    object: dict[str, Any]
    cluster: "Cluster | None" = None
    local: LocalJob | None = None

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """metadata.namespace."""
        return str(self.object["metadata"].get("namespace") or "default")

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return str(self.object["metadata"].get("uid") or "")

    @property
    def spec(self) -> dict[str, Any]:
        """The spec as stored."""
        return self.object.get("spec") or {}

    @property
    @abstractmethod
    def phase(self) -> str:
        """Pending before anybody looked at it."""

    @property
    @abstractmethod
    def is_finished(self) -> bool:
        """Whether it succeeded or failed."""

    @property
    def is_abandoned(self) -> bool:
        """Whether its runner on this machine has gone although it is not at its end."""
        is_open = not self.is_finished and self.phase != "Suspended"
        return self.local is not None and is_open and self.local.runner_pid is None

    @abstractmethod
    def delete(self) -> None:
        """Delete it; on this machine, forget it. What it stored stays."""

    def wait_until_gone(self) -> None:
        """Returns once its name is free, or after ten seconds."""
        for _ in range(MOST_POLLS):
            try:
                self.refreshed()
            except NotFound:
                return
            time.sleep(POLL_SECONDS)

    def refreshed(self) -> Self:
        """The same, read again. Raises NotFound once it is gone."""
        if self.cluster:
            found = self._read(self.cluster)
        else:
            found = self.local.object if self.local else {}
        if not found or found["metadata"].get("uid") != self.object["metadata"].get("uid"):
            raise self._gone()
        return replace(self, object=found)

    @abstractmethod
    def _read(self, cluster: "Cluster") -> dict[str, Any]:
        """What has its name now. Raises NotFound."""

    @abstractmethod
    def _gone(self) -> NotFound:
        """What is said once it was deleted."""
