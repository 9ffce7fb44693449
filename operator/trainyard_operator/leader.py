"""Which replica acts: the one that holds a Lease. The others look at it and take it when it is old.

Two never act at once, and no two clocks are compared for it. A holder counts from before it sent
its last renewal and acts for ACT_SECONDS at most; another replica counts from when it first saw
that renewal, which is later, and waits for LEASE_SECONDS. What is still on its way to the API
server when a holder has to stop is guarded as everything is: a status by its resource version, a
deletion by its uid, a creation by its name.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trainyard_operator.errors import (
    AlreadyExists,
    Conflict,
    KubeError,
    LeaseLost,
    NotFound,
)
from trainyard_operator.kube import LEASES, Kube

LEASE_SECONDS = 12
"""Another replica takes the Lease when it has seen no renewal for so long."""
ACT_SECONDS = 8.0
"""A holder acts for so long after a renewal; the rest is for what the API server still works on."""
RENEW_SECONDS = 2.0
LOOK_SECONDS = 1.0
"""Between two looks of a replica that waits."""
PATIENCE_SECONDS = 3.0
"""For one answer: a renewal that hangs must leave time for another."""
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_log = logging.getLogger(__name__)


def clock() -> float:
    """Seconds that also pass while the process is stopped or, on Linux, the machine sleeps."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A Lease, and since when it has been seen unchanged."""

    holder: str
    """Empty: released."""
    seconds: float
    """How long its holder wants to be waited for."""
    version: str
    since: float


def sight(before: Sighting | None, lease: dict[str, Any], now: float) -> Sighting:
    """What is seen now; the time moves on only when the Lease has changed."""
    version, spec = lease["metadata"]["resourceVersion"], lease.get("spec") or {}
    if before and before.version == version:
        return before
    holder, seconds = spec.get("holderIdentity"), spec.get("leaseDurationSeconds")
    return Sighting(holder or "", float(seconds or LEASE_SECONDS), version, now)


def may_take(seen: Sighting | None, identity: str, now: float) -> bool:
    """Whether a replica that does not lead may take the Lease; None: none was ever seen.

    One that holds its own name was left by an earlier process of the same pod, which has ended.
    """
    if seen is None or seen.holder in {"", identity}:
        return True
    return now - seen.since >= seen.seconds


def seconds_to_act(renewed: float | None, now: float) -> float:
    """How much longer a replica may act whose last renewal was sent then; None: never."""
    return 0.0 if renewed is None else max(renewed + ACT_SECONDS - now, 0.0)


def build_lease(
    namespace: str, name: str, holder: str, before: dict[str, Any] | None, now: datetime
) -> dict[str, Any]:
    """The Lease held, kept or, without a holder, released, in place of the one before it."""
    old = (before or {}).get("spec") or {}
    time_text = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    is_kept = holder in {old.get("holderIdentity"), ""}
    metadata = {"name": name, "namespace": namespace}
    if before:
        metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
    spec: dict[str, Any] = {
        "leaseDurationSeconds": LEASE_SECONDS,
        "acquireTime": (is_kept and old.get("acquireTime")) or time_text,
        "renewTime": time_text,
        "leaseTransitions": (old.get("leaseTransitions") or 0) + (not is_kept),
    }
    if holder:
        spec["holderIdentity"] = holder
    return {
        "apiVersion": LEASES.api_version,
        "kind": "Lease",
        "metadata": metadata,
        "spec": spec,
    }


@dataclass
class Leader:
    """One replica's part. `kube` has to be one whose requests nothing holds up."""

    kube: Kube
    namespace: str
    name: str
    identity: str
    clock: Callable[[], float] = clock
    lease: dict[str, Any] | None = None
    """As last stored by this replica; None: it does not lead."""
    _renewed: float | None = None
    _seen: Sighting | None = None
    _trouble: str = ""

    def seconds_to_act(self) -> float:
        """How much longer this replica may act."""
        return seconds_to_act(self._renewed, self.clock())

    async def campaign(self) -> None:
        """Returns once this replica leads."""
        while True:
            if await self._try(self.look()):
                break
            await asyncio.sleep(LOOK_SECONDS)
        _log.info("This replica (%s) leads.", self.identity)

    async def keep(self) -> None:
        """Renew for ever. Raises LeaseLost when time is up or another replica leads."""
        while self.seconds_to_act() > 0:
            await asyncio.sleep(min(RENEW_SECONDS, self.seconds_to_act()))
            await self._try(self.renew())
        self.lease = None
        raise LeaseLost(f"The Lease {self.name} was not renewed for {ACT_SECONDS:g} s")

    async def look(self) -> bool:
        """Take the Lease if it is free; returns whether it was. Raises KubeError."""
        found = await self._find()
        if found:  # One that somebody deleted still has a holder, who acts for a while.
            self._seen = sight(self._seen, found, self.clock())
        if not may_take(self._seen, self.identity, self.clock()):
            return False
        await self._hold(found)
        return True

    async def renew(self) -> bool:
        """Raises LeaseLost if another replica holds it, or KubeError."""
        try:
            await self._hold(self.lease)
        except Conflict:
            found = await self.kube.get(LEASES, self.namespace, self.name)
            holder = (found.get("spec") or {}).get("holderIdentity")
            if holder != self.identity:
                self.lease = self._renewed = None
                raise LeaseLost(f"The Lease {self.name} is held by {holder}") from None
            self.lease = found  # An answer was lost, or somebody noted something on it.
            await self._hold(found)
        return True

    async def release(self) -> None:
        """Let another replica lead at once. Call it when nothing acts any more."""
        lease, self.lease, self._renewed = self.lease, None, None
        if lease:
            free = build_lease(self.namespace, self.name, "", lease, datetime.now(UTC))
            await self._try(self.kube.replace(LEASES, free))

    async def _find(self) -> dict[str, Any] | None:
        try:
            return await self.kube.get(LEASES, self.namespace, self.name)
        except NotFound:
            return None

    async def _hold(self, before: dict[str, Any] | None) -> None:
        """Store the Lease as ours; time counts from before that."""
        began = self.clock()
        lease = build_lease(self.namespace, self.name, self.identity, before, datetime.now(UTC))
        if before:
            self.lease = await self.kube.replace(LEASES, lease)
        else:
            self.lease = await self.kube.create(LEASES, lease, is_read=True)
        self._renewed = began

    async def _try(self, request: Any) -> Any:
        """The answer, soon; None where there is none, which is said once."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await request
        except (Conflict, AlreadyExists):
            return None  # Another replica was quicker.
        except (KubeError, TimeoutError) as error:
            trouble = str(error) or f"no answer for {PATIENCE_SECONDS:g} s"
            if trouble != self._trouble:
                _log.warning("The Lease %s/%s: %s", self.namespace, self.name, trouble)
            self._trouble = trouble
            return None
        self._trouble = ""
        return answer
