"""What looks at objects of any kind have in common."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from trainyard_operator import metrics
from trainyard_operator.decision import Event
from trainyard_operator.errors import Conflict, KubeError, NotFound
from trainyard_operator.eventposter import EventPoster, build_event
from trainyard_operator.identity import Owner
from trainyard_operator.kube import Kube
from trainyard_operator.logform import ABOUT, About
from trainyard_operator.objectcache import ObjectCache
from trainyard_operator.reflector import Key
from trainyard_operator.status import JobStatus, build_condition, with_condition
from trainyard_operator.story import Line
from trainyard_operator.sweep.status import SweepStatus
from trainyard_operator.workqueue import WorkQueue

SHORTEST_WAIT_SECONDS = 0.1
"""A plan that wants to look again at once still lets others go first."""
MINOR_SECONDS = 3.0
"""How long what is minor may be out of date in the status: most of it is followed by more."""
KeyT = TypeVar("KeyT", bound=tuple[str, ...])
AnyStatus = JobStatus | SweepStatus
_log = logging.getLogger(__name__)


@dataclass
class Looker(ABC, Generic[KeyT]):
    """The loop's body for one kind; all state it keeps can be lost."""

    kube: Kube
    cache: ObjectCache
    """Objects of the kind."""
    queue: WorkQueue[Any]
    poster: EventPoster
    refusals: dict[KeyT, tuple[str, str]] = field(default_factory=dict, kw_only=True)
    """The object's uid, and why the API server refused what it was to own."""
    minor: dict[KeyT, float] = field(default_factory=dict, kw_only=True)
    """When minor fields that have changed are written at the latest."""
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC), kw_only=True)

    async def work(self, key: KeyT) -> bool:
        """Look at one object; returns whether it went well. Raises nothing."""
        began = time.perf_counter()
        about = ABOUT.set(About(*self.place(key)))
        try:
            return await self.reconcile(key)
        except KubeError as error:
            _log.warning("%s: %s", "/".join(key), error.message)
        except Exception:
            _log.exception("%s: the operator itself failed.", "/".join(key))
        finally:
            ABOUT.reset(about)
            metrics.RECONCILE_SECONDS.observe(time.perf_counter() - began)
        metrics.RECONCILE_ERRORS.inc()
        return False

    @abstractmethod
    async def reconcile(self, key: KeyT) -> bool:
        """Whether nothing has to be tried again. Raises KubeError."""

    def tell(self, owner: Owner, events: Iterable[Event]) -> None:
        """Have the events posted."""
        for event in events:
            self.poster.add(build_event(owner, event, self.now()))

    def place(self, key: KeyT) -> Key:
        """Namespace and name."""
        return key[0], key[1]

    def refusal(self, key: KeyT, uid: str) -> str:
        """Why the API server last refused what this very object was to own; empty if not."""
        owner, message = self.refusals.get(key, ("", ""))
        return message if owner == uid else ""

    def note_refusal(self, key: KeyT, uid: str, message: str, *, has_acted: bool) -> None:
        """Remember what came of a decision's actions."""
        before = self.refusal(key, uid)
        if message:
            self.refusals[key] = (uid, message)
            if not before:
                self.queue.add(key)  # Tell it at once; the next time is the plan's to choose.
        elif has_acted:
            self.refusals.pop(key, None)

    def forget(self, key: KeyT) -> None:
        """The object is gone."""
        self.minor.pop(key, None)
        self.queue.forget(key)
        self.refusals.pop(key, None)

    def wake_at(self, key: KeyT, when: datetime | None, now: datetime) -> None:
        """Look again then."""
        if when:
            delay = max((when - now).total_seconds(), SHORTEST_WAIT_SECONDS)
            self.queue.add_at(key, self.queue.clock() + delay)

    def may_wait(self, key: KeyT, patch: dict[str, Any], minor_fields: frozenset[str]) -> bool:
        """Whether nothing but what is minor has changed, which a later look may write as well."""
        if not patch or not patch.keys() <= minor_fields:
            self.minor.pop(key, None)
            return False
        due = self.minor.setdefault(key, self.queue.clock() + MINOR_SECONDS)
        if self.queue.clock() >= due:
            del self.minor[key]
            return False
        self.queue.add_at(key, due)
        return True

    async def refuse(self, key: KeyT, raw: dict[str, Any], status: AnyStatus, message: str) -> bool:
        """Say that the API server let a spec pass which this operator cannot use.

        Returns that nothing has to be tried again. Raises KubeError.
        """
        refused = unreadable(status, message, raw["metadata"]["generation"], self.now())
        patch = merge_patch(raw.get("status") or {}, refused.to_dict())
        await self.write_status(key, raw, patch)
        return True

    async def write_status(self, key: KeyT, raw: dict[str, Any], patch: dict[str, Any]) -> bool:
        """Whether the API server's status is now as patched; nothing may be done where it is not.

        A conflict is no failure: somebody else wrote, and the newest object is looked at at once.
        """
        if not patch:
            return True
        metadata, collection, place = raw["metadata"], self.cache.collection, self.place(key)
        body = {
            "metadata": {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]},
            "status": patch,
        }
        try:
            written = await self.kube.patch_status(collection, *place, body)
            if self.cache.get(place):  # Else it was deleted in the meantime.
                self.cache.put(written)
        except NotFound:
            self.cache.remove(raw)
            self.forget(key)
            return False
        except Conflict:
            self.cache.put(await self.kube.get(collection, *place))
            self.queue.add(key)
            return False
        return True


def unreadable(status: AnyStatus, message: str, generation: int, now: datetime) -> AnyStatus:
    """The status of an object whose spec this operator cannot read; message: with the place."""
    condition = build_condition(
        "Accepted", False, Line.REFUSED.reason, message, generation=generation, now=now
    )
    changes = {
        "phase": status.phase or "Pending",
        "observed_generation": generation,
        "conditions": with_condition(status.conditions, condition),
    }
    return status.model_copy(update=changes)


def first_problem(error: ValidationError) -> str:
    """Where and what, as a sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg'].removeprefix('Value error, ')}."


def merge_patch(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) from one object to the other; empty if they are equal."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := merge_patch(old, value):
                patch[key] = inner
        elif key not in before or old != value:
            patch[key] = value
    return patch
