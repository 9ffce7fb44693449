"""Actions on the pods of a job: create what is missing, delete, force out, clean up."""

from datetime import datetime
from typing import Any

from trainyard_operator import avoidance, inplace
from trainyard_operator.board import build_board, is_served
from trainyard_operator.deadlines import abandoned_at
from trainyard_operator.decision import Action, Create, DeletePod, DeletePyTorchJob
from trainyard_operator.desired import build_pod, build_service, node_name
from trainyard_operator.observed import PodRecord
from trainyard_operator.podgroup import build_pod_group
from trainyard_operator.pytorchjob import build_pytorchjob
from trainyard_operator.scene import Scene

FAILURE_GRACE_SECONDS = 5
"""Time for logs when a gang has failed: a rank that waits for a dead peer cannot save."""


def create_missing(scene: Scene) -> tuple[Action, ...]:
    """The service, the gang scheduler's PodGroup, and the pods that the newest attempt lacks; a
    name still taken has to wait."""
    missing = missing_nodes(scene)
    if scene.strays or not missing:
        return ()
    group = build_pod_group(scene.job)
    groups: tuple[Create, ...] = (Create(group),) if group else ()
    if is_served(scene.job):  # With each attempt, for whoever deleted it; there it is left alone.
        groups += tuple(Create(item) for item in build_board(scene.job, scene.defaults))
    if scene.job.spec.backend == "kubeflow":
        found = scene.observed.pytorchjob
        return () if found else (*groups, Create(_build_pytorchjob(scene)))
    pods = (Create(_build_pod(scene, index)) for index in missing)
    return (Create(build_service(scene.job)), *groups, *pods)


def _build_pod(scene: Scene, node_index: int) -> dict[str, Any]:
    pod = build_pod(scene.job, scene.status.attempt, node_index, scene.defaults)
    return avoidance.build_distant(pod, scene)


def _build_pytorchjob(scene: Scene) -> dict[str, Any]:
    pods = [_build_pod(scene, index) for index in range(min(scene.job.spec.nodes, 2))]
    return build_pytorchjob(scene.job, scene.status.attempt, pods)


def drop_pytorchjob(scene: Scene) -> tuple[Action, ...]:
    """Have Kubeflow make no pod any more."""
    found = scene.observed.pytorchjob
    if found is None or found.is_deleting:
        return ()
    return (DeletePyTorchJob(name=found.name, uid=found.uid),)


def missing_nodes(scene: Scene) -> list[int]:
    """Indices of nodes of the newest attempt that have no pod."""
    present = {pod.name for pod in scene.pods}
    name = scene.job.metadata.name
    return [i for i in range(scene.job.spec.nodes) if node_name(name, i) not in present]


def delete(pods: tuple[PodRecord, ...], grace_seconds: int | None = None) -> tuple[Action, ...]:
    """Delete the pods that are not being deleted yet."""
    return tuple(
        DeletePod(name=pod.name, uid=pod.uid, grace_seconds=grace_seconds)
        for pod in pods
        if not pod.is_deleting
    )


def force(pods: tuple[PodRecord, ...], now: datetime) -> tuple[Action, ...]:
    """Force out the pods that outlived their grace period."""
    return tuple(
        DeletePod(name=pod.name, uid=pod.uid, grace_seconds=0)
        for pod in pods
        if (due := abandoned_at(pod)) and now >= due
    )


def clear(scene: Scene) -> tuple[Action, ...]:
    """Delete every pod; ranks of a gang that has not failed get their time for a checkpoint."""
    pods = scene.observed.pods
    grace = FAILURE_GRACE_SECONDS if scene.is_broken else None
    return drop_pytorchjob(scene) + delete(pods, grace) + force(pods, scene.now)


def tend(scene: Scene) -> tuple[Action, ...]:
    """What a live attempt needs at any time: no pod of an earlier one, no stuck pod, and every
    launcher at work on it."""
    strays = delete(scene.strays, FAILURE_GRACE_SECONDS)
    return strays + force(scene.observed.pods, scene.now) + inplace.orders(scene)


def clean(scene: Scene) -> tuple[Action, ...]:
    """Delete what runPolicy.cleanPodPolicy says once the job has ended."""
    policy, pods = scene.job.spec.run_policy.clean_pod_policy, scene.observed.pods
    kept = {"All": (), "Running": tuple(p for p in pods if p.is_finished), "None": pods}[policy]
    doomed = delete(tuple(pod for pod in pods if pod not in kept))
    found = scene.observed.pytorchjob
    is_active = bool(doomed) and found is not None and not found.has_ended
    return (drop_pytorchjob(scene) if is_active else ()) + doomed + force(pods, scene.now)
