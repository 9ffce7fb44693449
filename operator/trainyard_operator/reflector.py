"""The pods of all jobs, kept in memory by a list and a watch."""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainyard_operator.contract import JOB_KIND, PYTORCHJOB_KIND, Label
from trainyard_operator.errors import Expired, KubeError
from trainyard_operator.kube import PODS, Kube
from trainyard_operator.metrics import WATCH_RESTARTS
from trainyard_operator.observed import PodRecord, pod_record

LONGEST_PAUSE_SECONDS = 30.0
RELIST_SECONDS = 1800.0
"""A list this often makes good whatever a watch may have missed."""
_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a job."""
Gang = tuple[str, str, str]
"""Namespace, name and uid of a job: a namesake's pods are not its own."""
Scope = str | None
"""A namespace; None: all of them."""


@dataclass
class Reflector:
    """A mirror of the cluster's training pods."""

    kube: Kube
    scopes: tuple[Scope, ...]
    on_change: Callable[[Key], None]
    on_advance: Callable[[Key], None]
    """Called instead where a pod only got on: all pods of a gang do at nearly the same time."""
    pods: dict[Gang, dict[str, PodRecord]] = field(default_factory=dict)
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once every scope has been listed."""
    clock: Callable[[], float] = time.monotonic
    versions: dict[Scope, str] = field(default_factory=dict)
    """Where each watch goes on; a scope that is missing has to be listed."""
    _listed: dict[Scope, float] = field(default_factory=dict)
    _alive: dict[Scope, float] = field(default_factory=dict)

    def snapshot(self, key: Key, uid: str) -> tuple[PodRecord, ...]:
        """The pods of one job."""
        return tuple(self.pods.get((*key, uid), {}).values())

    def silence(self) -> float:
        """Seconds since the least active scope heard of the API server or tried to."""
        now = self.clock()
        return max((now - at for at in self._alive.values()), default=0.0)

    async def run(self) -> None:
        """Mirror for ever."""
        await asyncio.gather(*(self._mirror(scope) for scope in self.scopes))

    async def _mirror(self, scope: Scope) -> None:
        """A lost connection is taken up again where it was lost, without limit."""
        failures = 0
        while True:
            self._alive[scope] = self.clock()
            try:
                await self.follow(scope)
                failures = 0
            except Expired:
                self.versions.pop(scope, None)  # A list that took too long had none yet.
            except KubeError as error:
                failures += 1
                _log.warning("Pods cannot be watched: %s", error.message)
            WATCH_RESTARTS.labels(resource="pods").inc()
            await asyncio.sleep(pause(failures, random.random()))

    async def follow(self, scope: Scope) -> None:
        """List if need be, then one watch to its end. Raises KubeError."""
        is_old = self.clock() - self._listed.get(scope, 0.0) > RELIST_SECONDS
        if scope not in self.versions or is_old:
            await self._list(scope)
        watch = self.kube.watch(PODS, scope, Label.JOB_UID, self.versions[scope])
        async for event in watch:
            self._alive[scope] = self.clock()
            item = event["object"]
            self.versions[scope] = item["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._apply(event["type"], item)

    async def _list(self, scope: Scope) -> None:
        """Replace everything of a scope at once, when the last chunk has come."""
        fresh: dict[Gang, dict[str, PodRecord]] = defaultdict(dict)
        version = ""
        async for items, version in self.kube.list_chunks(PODS, scope, Label.JOB_UID):  # noqa: B007
            self._alive[scope] = self.clock()
            for item in items:
                if record := own_record(item):
                    fresh[_gang(item)][record.name] = record
        before = {g: p for g, p in self.pods.items() if scope is None or g[0] == scope}
        others = {} if scope is None else {g: p for g, p in self.pods.items() if g[0] != scope}
        self.pods = {**others, **fresh}
        self.versions[scope], self._listed[scope] = version, self.clock()
        if len(self._listed) == len(self.scopes):
            self.synced.set()
        for gang in {*before, *fresh}:
            if before.get(gang) != fresh.get(gang):
                self.on_change(gang[:2])

    def _apply(self, type_: str, item: dict[str, Any]) -> None:
        gang, name = _gang(item), item["metadata"]["name"]
        record = None if type_ == "DELETED" else own_record(item)
        known = self.pods.get(gang, {})
        if known.get(name) == record:
            return
        if record:
            self.pods.setdefault(gang, {})[name] = record
        else:
            del known[name]
            if not known:
                del self.pods[gang]
        tell = self.on_change if is_urgent(record) else self.on_advance
        tell(gang[:2])


def is_urgent(pod: PodRecord | None) -> bool:
    """Whether it failed, leaves or is gone; else it was made, placed or started, or ended well."""
    return pod is None or pod.has_failed or pod.is_deleting


def own_record(item: dict[str, Any]) -> PodRecord | None:
    """The record of a job's pod; None for one that somebody labelled by hand, or orphaned."""
    labels, owners = item["metadata"]["labels"], item["metadata"].get("ownerReferences") or ()
    if not any(_is_ours(owner, labels) for owner in owners):
        return None
    try:
        return pod_record(item)
    except (KeyError, ValueError):
        return None


def _is_ours(owner: dict[str, Any], labels: dict[str, str]) -> bool:
    """The job, or the PyTorchJob of its name, whose own labels Kubeflow has put on the pod."""
    if owner["kind"] == PYTORCHJOB_KIND:
        return bool(owner["name"] == labels.get(Label.JOB))
    return bool(owner["kind"] == JOB_KIND and owner["uid"] == labels.get(Label.JOB_UID))


def pause(failures: int, chance: float) -> float:
    """Seconds before the next try; `chance` (0 to 1) keeps operators from coming all at once."""
    return (1 + chance) / 2 * min(0.2 * 2.0 ** min(failures, 16), LONGEST_PAUSE_SECONDS)


def _gang(item: dict[str, Any]) -> Gang:
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    return metadata["namespace"], labels.get(Label.JOB, ""), labels.get(Label.JOB_UID, "")
