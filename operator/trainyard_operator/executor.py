"""Carrying out what a decision asks for: each action is idempotent, all go at the same time."""

import asyncio
import logging
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import now_text
from trainyard_operator.decision import Action, Create, Decision, DeletePod, Event
from trainyard_operator.kube import (
    COLLECTIONS,
    EVENTS,
    JOBS,
    PODS,
    AlreadyExists,
    Conflict,
    Kube,
    KubeError,
    NotFound,
    Refused,
)

COMPONENT = "trainyard-operator"
_log = logging.getLogger(__name__)


class Occupied(KubeError):
    """The name of a child is taken by an object of somebody else, or of a job just deleted."""


@dataclass(frozen=True)
class Outcome:
    """What became of a decision's actions."""

    refusal: str = ""
    """Why the API server refused an object, in its own words."""
    is_complete: bool = True
    """Whether nothing has to be tried again soon."""


async def execute(kube: Kube, job: TrainingJob, decision: Decision) -> Outcome:
    """Carry out all actions and tell the events. Raises nothing that a retry would mend."""
    tasks = [_act(kube, job, action) for action in decision.actions]
    tasks += [_tell(kube, job, event) for event in decision.events]
    errors = [e for e in await asyncio.gather(*tasks, return_exceptions=True) if e is not None]
    for error in errors:
        if not isinstance(error, KubeError):
            raise error
    refusals = [e.message for e in errors if isinstance(e, Refused | Occupied)]
    retries = [e for e in errors if not isinstance(e, Refused)]
    for error in retries:
        _log.warning("%s/%s: %s", job.metadata.namespace, job.metadata.name, error)
    return Outcome(refusal=min(refusals, default=""), is_complete=not retries)


async def _act(kube: Kube, job: TrainingJob, action: Action) -> None:
    meta = job.metadata
    try:
        if isinstance(action, Create):
            await _create(kube, job, action.manifest)
        elif isinstance(action, DeletePod):
            grace = action.grace_seconds
            await kube.delete(PODS, meta.namespace, action.name, action.uid, grace)
        else:
            await kube.delete(JOBS, meta.namespace, meta.name, meta.uid)
    except (NotFound, Conflict):
        return


async def _create(kube: Kube, job: TrainingJob, manifest: dict[str, Any]) -> None:
    collection, metadata = COLLECTIONS[manifest["kind"]], manifest["metadata"]
    try:
        await kube.create(collection, manifest)
    except AlreadyExists:
        found = await kube.get(collection, metadata["namespace"], metadata["name"])
        owners = {owner["uid"] for owner in found["metadata"].get("ownerReferences") or ()}
        if job.metadata.uid not in owners:
            raise Occupied(
                409,
                f"{manifest['kind']} '{metadata['name']}' exists and does not belong to this job; "
                "delete it, or give the job another name.",
            ) from None


async def _tell(kube: Kube, job: TrainingJob, event: Event) -> None:
    """Post an event; one that cannot be posted is lost, since the history has it too."""
    try:
        await kube.create(EVENTS, build_event(job, event, datetime.now(UTC)))
    except KubeError as error:
        _log.info("An event was not posted: %s", error.message)


def build_event(job: TrainingJob, event: Event, now: datetime) -> dict[str, Any]:
    """The object that `kubectl describe` shows."""
    meta, time = job.metadata, now_text(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta.name}.{uuid.uuid4().hex[:16]}", "namespace": meta.namespace},
        "involvedObject": {
            "apiVersion": job.api_version,
            "kind": job.kind,
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:1024],
        "source": {"component": COMPONENT},
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
