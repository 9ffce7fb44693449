"""Objects of one kind as last seen: by the watch, by a list, or by the answer to our own write."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainyard_operator.kube import JOBS, Collection, Kube
from trainyard_operator.lag import WatchLag
from trainyard_operator.reflector import Key, Scope


@dataclass
class ObjectCache:
    """Raw objects by namespace and name."""

    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    scopes: tuple[Scope, ...] = (None,)
    """What is watched, each by a watch of its own."""
    lag: WatchLag = field(default_factory=WatchLag)
    collection: Collection = JOBS
    on_change: Callable[[Key, dict[str, Any] | None], None] = lambda _key, _raw: None
    """Called with each version that is kept, and with None for an object that is gone."""

    def get(self, key: Key) -> dict[str, Any] | None:
        """The newest known version."""
        return self.objects.get(key)

    def put(self, raw: dict[str, Any]) -> bool:
        """Keep it, unless this version or a newer one is known; returns whether it was news.

        The watch delivers our own writes again, and versions older than them: a decision made
        from one of those would be refused. Versions grow in etcd, and since 1.35 Kubernetes
        guarantees that they compare as numbers. (After a restore of etcd's backup they begin
        anew, and the operator has to, as everything that watches.)
        """
        key = key_of(raw)
        self.lag.expect(self.scope_of(raw), _version(raw))
        known = self.objects.get(key)
        if known is not None and _version(raw) <= _version(known):
            return False
        self.objects[key] = _slim(raw)
        self.on_change(key, self.objects[key])
        return True

    def hear(self, type_: str, raw: dict[str, Any]) -> bool:
        """The watch tells of it; returns whether it was news."""
        self.lag.hear(self.scope_of(raw), _version(raw))
        if type_ == "DELETED":
            self.remove(raw)
            return True
        return self.put(raw)

    def scope_of(self, raw: dict[str, Any]) -> Scope:
        """Whose watch tells of it."""
        namespace = raw["metadata"]["namespace"]
        return namespace if namespace in self.scopes else None

    def remove(self, raw: dict[str, Any]) -> None:
        """Forget this very object; a namesake made since then stays."""
        key = key_of(raw)
        known = self.objects.get(key)
        if known is not None and known["metadata"]["uid"] == raw["metadata"]["uid"]:
            self._forget(key)

    def uids(self) -> dict[Key, str]:
        """What is known now."""
        return {key: raw["metadata"]["uid"] for key, raw in self.objects.items()}

    def drop_absent(self, before: dict[Key, str], listed: set[str]) -> list[Key]:
        """Forget what was known before a list was asked for and is not in it; returns the keys."""
        now = self.uids()
        gone = [k for k, uid in before.items() if uid not in listed and now.get(k) == uid]
        for key in gone:
            self._forget(key)
        return gone

    def _forget(self, key: Key) -> None:
        del self.objects[key]
        self.on_change(key, None)


async def relist(cache: ObjectCache, kube: Kube) -> list[Key]:
    """Make good what the watch missed; returns the keys that changed.

    kopf reports no deletion that happened while it was not watching. Raises KubeError.
    """
    before, listed, changed = cache.uids(), set(), []
    for scope in cache.scopes:
        newest = 0
        async for items, _ in kube.list_chunks(cache.collection, scope):
            for raw in items:
                listed.add(raw["metadata"]["uid"])
                newest = max(newest, _version(raw))
                if cache.put(raw):
                    changed.append(key_of(raw))
        cache.lag.settle(scope, newest)
    return changed + cache.drop_absent(before, listed)


def key_of(raw: dict[str, Any]) -> Key:
    """Namespace and name."""
    return raw["metadata"]["namespace"], raw["metadata"]["name"]


def _slim(raw: dict[str, Any]) -> dict[str, Any]:
    """Without the record of who wrote which field, which is as long as the rest."""
    metadata = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
    return {**raw, "metadata": metadata}


def _version(raw: dict[str, Any]) -> int:
    return int(raw["metadata"]["resourceVersion"])
