"""The pods of all jobs, kept in memory by one list and one watch."""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainyard_operator.contract import Label
from trainyard_operator.kube import PODS, Expired, Kube, KubeError
from trainyard_operator.metrics import WATCH_RESTARTS
from trainyard_operator.observed import PodRecord, pod_record

LONGEST_PAUSE_SECONDS = 30.0
_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a job."""
_Gang = tuple[str, str, str]
"""Namespace, name and uid of a job: a namesake's pods are not its own."""


@dataclass
class Reflector:
    """A mirror of the cluster's training pods."""

    kube: Kube
    namespace: str | None
    """None: all namespaces."""
    on_change: Callable[[Key], None]
    pods: dict[_Gang, dict[str, PodRecord]] = field(default_factory=dict)
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    last_heard: float = 0.0
    """Loop time at which the API server was last heard of."""

    def snapshot(self, key: Key, uid: str) -> tuple[PodRecord, ...]:
        """The pods of one job."""
        return tuple(self.pods.get((*key, uid), {}).values())

    async def run(self) -> None:
        """Mirror for ever; a lost connection is taken up again, without limit."""
        failures = 0
        while True:
            try:
                version = await self._list()
                failures = 0
                while True:
                    version = await self._watch(version)
            except Expired:
                _log.info("The watch of pods expired; listing again.")
            except KubeError as error:
                failures += 1
                _log.warning("Pods cannot be watched: %s", error.message)
            WATCH_RESTARTS.labels(resource="pods").inc()
            await asyncio.sleep(_pause(failures))

    async def _list(self) -> str:
        items, version = await self.kube.list_all(PODS, self.namespace, Label.JOB_UID)
        fresh: dict[_Gang, dict[str, PodRecord]] = defaultdict(dict)
        for item in items:
            if record := _record(item):
                fresh[_gang(item)][record.name] = record
        before, self.pods = self.pods, dict(fresh)
        self._heard()
        self.synced.set()
        for gang in {*before, *self.pods}:
            if before.get(gang) != self.pods.get(gang):
                self.on_change(gang[:2])
        return version

    async def _watch(self, version: str) -> str:
        """One watch; returns the version to go on from."""
        async for event in self.kube.watch(PODS, self.namespace, Label.JOB_UID, version):
            self._heard()
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._apply(event["type"], event["object"])
        return version

    def _apply(self, type_: str, item: dict[str, Any]) -> None:
        gang, record = _gang(item), _record(item)
        if record is None:
            return
        pods = self.pods.setdefault(gang, {})
        if type_ == "DELETED":
            pods.pop(record.name, None)
            if not pods:
                del self.pods[gang]
        elif pods.get(record.name) == record:
            return
        else:
            pods[record.name] = record
        self.on_change(gang[:2])

    def _heard(self) -> None:
        self.last_heard = asyncio.get_running_loop().time()


def _gang(item: dict[str, Any]) -> _Gang:
    metadata = item["metadata"]
    labels = metadata["labels"]
    return metadata["namespace"], labels.get(Label.JOB, ""), labels.get(Label.JOB_UID, "")


def _record(item: dict[str, Any]) -> PodRecord | None:
    """None for a pod that somebody labelled by hand."""
    try:
        return pod_record(item)
    except (KeyError, ValueError):
        return None


def _pause(failures: int) -> float:
    """Seconds before the next try; drawn at random, so that operators do not come all at once."""
    return random.uniform(0.5, 1) * min(0.2 * 2**failures, LONGEST_PAUSE_SECONDS)
