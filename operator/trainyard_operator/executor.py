"""Carrying out what a decision asks for: each action is idempotent, all go at the same time."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import JOB_KIND, PYTORCHJOB_KIND
from trainyard_operator.decision import (
    Create,
    Decision,
    DeleteJob,
    DeletePod,
    DeletePyTorchJob,
    OrderAttempt,
)
from trainyard_operator.errors import (
    AlreadyExists,
    Conflict,
    KubeError,
    LauncherError,
    NotFound,
    Occupied,
    Refused,
)
from trainyard_operator.identity import Owner
from trainyard_operator.kube import (
    JOBS,
    PODS,
    PYTORCHJOBS,
    SERVICES,
    Collection,
    Kube,
    collection_of,
)
from trainyard_operator.launchers import Launchers

WHAT_IS_MISSING = {
    JOB_KIND: "manifests/crd of this release",
    "PodGroup": "the gang scheduler that spec.scheduling.gang names, or set it to none",
    PYTORCHJOB_KIND: "Kubeflow's training-operator, or leave spec.backend out",
}
"""What to do where a kind is unknown to the cluster."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a decision's actions."""

    refusal: str = ""
    """Why an object cannot be created, in the API server's own words."""
    is_complete: bool = True
    """Whether nothing has to be tried again soon."""


async def execute(
    kube: Kube, launchers: Launchers, job: TrainingJob, decision: Decision
) -> Outcome:
    """Carry out all actions. Raises nothing that a retry would mend."""
    actions = decision.actions
    # First what would make new pods in place of those that are deleted.
    first = await errors_of(
        _delete(kube, job, a) for a in actions if isinstance(a, DeletePyTorchJob)
    )
    if first:
        return outcome_of(job, first)
    orders = [_order(kube, launchers, a) for a in actions if isinstance(a, OrderAttempt)]
    deletions = [_delete(kube, job, a) for a in actions if isinstance(a, DeletePod | DeleteJob)]
    creations = _create_gang(kube, job, [a for a in actions if isinstance(a, Create)])
    *errors, more = await asyncio.gather(errors_of(orders), errors_of(deletions), creations)
    return outcome_of(job, [error for part in (*errors, more) for error in part])


def outcome_of(owner: Owner, found: list[KubeError | LauncherError]) -> Outcome:
    """What the errors of its calls come to; those that a retry may mend are logged."""
    refusals = [e.message for e in found if isinstance(e, Refused | Occupied)]
    retries = [e for e in found if not isinstance(e, Refused | Occupied)]
    for error in found:
        _log.info("%s/%s: %s", owner.metadata.namespace, owner.metadata.name, error.message)
    return Outcome(refusal=min(refusals, default=""), is_complete=not retries)


async def _create_gang(
    kube: Kube, job: TrainingJob, actions: list[Create]
) -> list[KubeError | LauncherError]:
    """First what is no pod: a gang without its service would start, and not find itself."""
    pods = [action for action in actions if action.manifest["kind"] == "Pod"]
    rest = [action for action in actions if action.manifest["kind"] != "Pod"]
    for part in (rest, pods):
        errors = await errors_of(_create_part(kube, job, action.manifest) for action in part)
        if errors:
            return errors
    return []


async def errors_of(
    calls: Iterable[Coroutine[Any, Any, None]],
) -> list[KubeError | LauncherError]:
    """Make all calls at once. Raises what is neither error, and only when all have ended."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if result is not None and not isinstance(result, KubeError | LauncherError):
            raise result
    return [result for result in results if isinstance(result, KubeError | LauncherError)]


async def _order(kube: Kube, launchers: Launchers, action: OrderAttempt) -> None:
    """Raises LauncherError, also where this replica must not act any more."""
    if kube.seconds_to_act() <= 0:
        raise LauncherError(f"pod {action.name} got no order, since this replica does not lead")
    await launchers.order(action)


async def _delete(
    kube: Kube, job: TrainingJob, action: DeletePod | DeletePyTorchJob | DeleteJob
) -> None:
    meta = job.metadata
    try:
        if isinstance(action, DeletePod):
            grace = action.grace_seconds
            await kube.delete(PODS, meta.namespace, action.name, action.uid, grace)
        elif isinstance(action, DeletePyTorchJob):
            await kube.delete(PYTORCHJOBS, meta.namespace, action.name, action.uid)
        else:
            await kube.delete(JOBS, meta.namespace, meta.name, meta.uid)
    except (NotFound, Conflict):
        return  # It is gone, and a namesake is none of our business.


async def _create_part(kube: Kube, job: TrainingJob, manifest: dict[str, Any]) -> None:
    await create_owned(kube, job, manifest)


async def create_owned(
    kube: Kube, owner: Owner, manifest: dict[str, Any], *, is_read: bool = False
) -> dict[str, Any] | None:
    """The object as stored, if it is read or was there; None where its namespace is gone.

    Raises AlreadyExists while the name is taken by an object that is about to go, which a pod or
    service of a namesake that is no more is told to.
    """
    collection, metadata = collection_of(manifest), manifest["metadata"]
    try:
        return await kube.create(collection, manifest, is_read=is_read)
    except NotFound as error:
        if collection.group and "namespaces " not in error.message:
            raise _unknown_kind(manifest) from None
        return None  # The namespace is gone, and the owner with it.
    except AlreadyExists:
        found = await kube.get(collection, metadata["namespace"], metadata["name"])
        if _is_owned_by(owner, found["metadata"]):
            return found
        if "deletionTimestamp" in found["metadata"]:
            raise
        if not _is_of_namesake(owner, found["metadata"]):
            raise _occupied(owner, manifest) from None
        if collection in (PODS, SERVICES):
            await _make_way(kube, owner, collection, found["metadata"])
        raise


async def _make_way(kube: Kube, owner: Owner, collection: Collection, left: dict[str, Any]) -> None:
    """Delete what a namesake left behind, if this owner still is the one of its name.

    After an outage of the API server the cluster's garbage collector may never do it: while it
    looks for resources anew it hears of no deletion.
    """
    namespace, name = owner.metadata.namespace, owner.metadata.name
    now = await kube.get(JOBS, namespace, name)
    if now["metadata"]["uid"] != owner.metadata.uid:
        return  # It is this job that is no more, and the object may be its successor's.
    with suppress(NotFound, Conflict):
        await kube.delete(collection, namespace, left["name"], left["uid"])


def _occupied(owner: Owner, manifest: dict[str, Any]) -> Occupied:
    noun = "job" if owner.kind == JOB_KIND else "sweep"
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    return Occupied(
        409,
        f"{kind} '{name}' exists and does not belong to this {noun}; delete it, or give the "
        f"{noun} another name.",
    )


def _unknown_kind(manifest: dict[str, Any]) -> Refused:
    """Who asks for what the cluster does not have hears so."""
    version, kind = manifest["apiVersion"], manifest["kind"]
    return Refused(
        404, f"this cluster knows no {kind} of {version}; install {WHAT_IS_MISSING[kind]}."
    )


def _is_owned_by(owner: Owner, metadata: dict[str, Any]) -> bool:
    owners = metadata.get("ownerReferences") or ()
    return any(each["uid"] == owner.metadata.uid for each in owners)


def _is_of_namesake(owner: Owner, metadata: dict[str, Any]) -> bool:
    """Whether its owner has this one's name; there is only one of a name at a time."""
    owners = metadata.get("ownerReferences") or ()
    return any((each["kind"], each["name"]) == (owner.kind, owner.metadata.name) for each in owners)
