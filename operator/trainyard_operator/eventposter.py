"""Events for `kubectl describe`, posted behind everything else: a burst of jobs gets its pods
first."""

import asyncio
import logging
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from trainyard_operator.contract import now_text
from trainyard_operator.decision import Event
from trainyard_operator.errors import KubeError
from trainyard_operator.identity import Owner
from trainyard_operator.kube import EVENTS, Kube

COMPONENT = "trainyard-operator"
EVENT_LENGTH = 1024
"""No API server takes a longer message."""
MOST_WAITING = 10_000
"""They take 10 MB."""
LAST_SECONDS = 1.0
"""At the end, how long what is left may take."""
_log = logging.getLogger(__name__)


@dataclass
class EventPoster:
    """One at a time. One that cannot be posted is lost: the job's history has it too."""

    kube: Kube
    waiting: deque[dict[str, Any]] = field(default_factory=deque)
    _added: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, event: dict[str, Any]) -> None:
        """Post it soon; where too many wait, the oldest is given up."""
        if len(self.waiting) >= MOST_WAITING:
            lost = self.waiting.popleft()
            _log.warning("An event was not posted, as too many wait: %s", lost["message"])
        self.waiting.append(event)
        self._added.set()

    async def run(self) -> None:
        """Post for ever."""
        while True:
            await self._added.wait()
            self._added.clear()
            await self.post_all()

    async def post_all(self) -> None:
        """Everything that waits."""
        while self.waiting:
            try:
                await self.kube.create(EVENTS, self.waiting.popleft())
            except KubeError as error:
                _log.info("An event was not posted: %s", error.message)

    async def finish(self) -> None:
        """What can be posted in a moment; the rest is lost."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self.post_all()
        except TimeoutError:
            _log.info("%d events were not posted.", len(self.waiting))


def build_event(owner: Owner, event: Event, now: datetime) -> dict[str, Any]:
    """The object that `kubectl describe` shows."""
    meta, time = owner.metadata, now_text(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta.name}.{uuid.uuid4().hex[:16]}", "namespace": meta.namespace},
        "involvedObject": {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:EVENT_LENGTH],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
