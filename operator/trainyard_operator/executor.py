"""Carrying out what a decision asks for: each action is idempotent, all go at the same time."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
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
from trainyard_operator.kube import JOBS, PODS, PYTORCHJOBS, Kube, collection_of
from trainyard_operator.launchers import Launchers

WHAT_IS_MISSING = {
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
    first = await _errors_of(
        _delete(kube, job, a) for a in actions if isinstance(a, DeletePyTorchJob)
    )
    if first:
        return _outcome(job, first)
    orders = [_order(kube, launchers, a) for a in actions if isinstance(a, OrderAttempt)]
    deletions = [_delete(kube, job, a) for a in actions if isinstance(a, DeletePod | DeleteJob)]
    creations = _create_gang(kube, job, [a for a in actions if isinstance(a, Create)])
    *errors, more = await asyncio.gather(_errors_of(orders), _errors_of(deletions), creations)
    return _outcome(job, [error for part in (*errors, more) for error in part])


def _outcome(job: TrainingJob, found: list[KubeError | LauncherError]) -> Outcome:
    refusals = [e.message for e in found if isinstance(e, Refused | Occupied)]
    retries = [e for e in found if not isinstance(e, Refused | Occupied)]
    for error in found:
        _log.info("%s/%s: %s", job.metadata.namespace, job.metadata.name, error.message)
    return Outcome(refusal=min(refusals, default=""), is_complete=not retries)


async def _create_gang(
    kube: Kube, job: TrainingJob, actions: list[Create]
) -> list[KubeError | LauncherError]:
    """First what is no pod: a gang without its service would start, and not find itself."""
    pods = [action for action in actions if action.manifest["kind"] == "Pod"]
    rest = [action for action in actions if action.manifest["kind"] != "Pod"]
    for part in (rest, pods):
        errors = await _errors_of(_create(kube, job, action.manifest) for action in part)
        if errors:
            return errors
    return []


async def _errors_of(
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


async def _create(kube: Kube, job: TrainingJob, manifest: dict[str, Any]) -> None:
    """Raises AlreadyExists while the name is taken by an object that is about to go."""
    collection, metadata = collection_of(manifest), manifest["metadata"]
    try:
        await kube.create(collection, manifest)
    except NotFound as error:
        if collection.group and "namespaces " not in error.message:
            raise _unknown_kind(manifest) from None
        return  # The namespace is gone, and the job with it.
    except AlreadyExists:
        found = await kube.get(collection, metadata["namespace"], metadata["name"])
        if not _is_owned_by(job, found["metadata"]):
            if _is_leaving(job, found["metadata"]):
                raise
            kind, name = manifest["kind"], metadata["name"]
            raise Occupied(
                409,
                f"{kind} '{name}' exists and does not belong to this job; delete it, or give "
                "the job another name.",
            ) from None


def _unknown_kind(manifest: dict[str, Any]) -> Refused:
    """Who asks for what the cluster does not have hears so."""
    version, kind = manifest["apiVersion"], manifest["kind"]
    return Refused(
        404, f"this cluster knows no {kind} of {version}; install {WHAT_IS_MISSING[kind]}."
    )


def _is_owned_by(job: TrainingJob, metadata: dict[str, Any]) -> bool:
    owners = metadata.get("ownerReferences") or ()
    return any(owner["uid"] == job.metadata.uid for owner in owners)


def _is_leaving(job: TrainingJob, metadata: dict[str, Any]) -> bool:
    """Whether it is being deleted, or was the child of a job of this name, which is no more."""
    namesake = (JOB_KIND, job.metadata.name)
    owners = metadata.get("ownerReferences") or ()
    is_orphan = any((owner["kind"], owner["name"]) == namesake for owner in owners)
    return is_orphan or "deletionTimestamp" in metadata
