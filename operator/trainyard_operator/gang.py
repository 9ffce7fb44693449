"""Actions on the pods of a job: create what is missing, delete, force out, clean up."""

from datetime import datetime

from trainyard_operator import avoidance, inplace
from trainyard_operator.deadlines import abandoned_at
from trainyard_operator.decision import Action, Create, DeletePod
from trainyard_operator.desired import build_pod, build_service, node_name
from trainyard_operator.observed import PodRecord
from trainyard_operator.podgroup import build_pod_group
from trainyard_operator.scene import Scene

FAILURE_GRACE_SECONDS = 5
"""Time for logs when a gang has failed: a rank that waits for a dead peer cannot save."""


def create_missing(scene: Scene) -> tuple[Action, ...]:
    """The service, the gang scheduler's PodGroup, and the pods that the newest attempt lacks; a
    name still taken has to wait."""
    missing = missing_nodes(scene)
    if scene.strays or not missing:
        return ()
    job, attempt = scene.job, scene.status.attempt
    pods = (build_pod(job, attempt, index, scene.defaults) for index in missing)
    distant = (Create(avoidance.build_distant(pod, scene)) for pod in pods)
    group = build_pod_group(job)
    groups = (Create(group),) if group else ()
    return (Create(build_service(job)), *groups, *distant)


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
    return delete(pods, grace) + force(pods, scene.now)


def tend(scene: Scene) -> tuple[Action, ...]:
    """What a live attempt needs at any time: no pod of an earlier one, no stuck pod, and every
    launcher at work on it."""
    strays = delete(scene.strays, FAILURE_GRACE_SECONDS)
    return strays + force(scene.observed.pods, scene.now) + inplace.orders(scene)


def clean(scene: Scene) -> tuple[Action, ...]:
    """Delete what runPolicy.cleanPodPolicy says once the job has ended."""
    policy, pods = scene.job.spec.run_policy.clean_pod_policy, scene.observed.pods
    kept = {"All": (), "Running": tuple(p for p in pods if p.is_finished), "None": pods}[policy]
    return delete(tuple(pod for pod in pods if pod not in kept)) + force(pods, scene.now)
