"""Gangs and queues of other people's schedulers: Volcano, the coscheduling plugin, Kueue.

| spec.scheduling | what is made | how a pod joins |
| --- | --- | --- |
| gang: volcano | PodGroup of scheduling.volcano.sh, in `queue` | an annotation |
| gang: coscheduling | PodGroup of scheduling.x-k8s.io | a label |
| queue, and gang not volcano | nothing: Kueue makes its own Workload | labels, a scheduling gate |

A PodGroup is named after what it asks for, since nothing is ever updated: another width or queue
makes another PodGroup. All of them go with the job.
"""

import hashlib
import json
from typing import Any

from trainyard_operator.api import TrainingJob
from trainyard_operator.identity import labels_of, owner_of

VOLCANO = "scheduling.volcano.sh/v1beta1"
COSCHEDULING = "scheduling.x-k8s.io/v1alpha1"
SCHEDULERS = {"volcano": "volcano", "coscheduling": "scheduler-plugins-scheduler"}
"""Under what name each runs unless its administrator chose another: spec.scheduling.schedulerName
says which."""
VOLCANO_GROUP = "scheduling.k8s.io/group-name"
"""Annotation of a pod."""
COSCHEDULING_GROUP = "scheduling.x-k8s.io/pod-group"
"""Label of a pod."""
PLACE_SECONDS = 60
"""How long the coscheduling plugin holds places for a gang that is not complete."""
KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
KUEUE_GROUP = "kueue.x-k8s.io/pod-group-name"
KUEUE_COUNT = "kueue.x-k8s.io/pod-group-total-count"
KUEUE_RETRIABLE = "kueue.x-k8s.io/retriable-in-group"
KUEUE_GATE = "kueue.x-k8s.io/admission"
"""Kueue's own webhook sets it too. A pod that has it from the start never runs past its queue."""


def build_pod_group(job: TrainingJob) -> dict[str, Any] | None:
    """The PodGroup that the pods of an attempt join; None where no gang scheduler is asked for."""
    scheduling = job.spec.scheduling
    if scheduling.gang == "none":
        return None
    spec: dict[str, Any] = {"minMember": job.spec.nodes}
    if scheduling.gang == "coscheduling":
        spec["scheduleTimeoutSeconds"] = PLACE_SECONDS
    else:
        if scheduling.queue:
            spec["queue"] = scheduling.queue
        if scheduling.priority_class_name:
            spec["priorityClassName"] = scheduling.priority_class_name
    return {
        "apiVersion": VOLCANO if scheduling.gang == "volcano" else COSCHEDULING,
        "kind": "PodGroup",
        "metadata": {
            "name": f"{job.metadata.name}-{_digest(spec)}",
            "namespace": job.metadata.namespace,
            "labels": labels_of(job),
            "ownerReferences": [owner_of(job)],
        },
        "spec": spec,
    }


def membership(job: TrainingJob, attempt: int) -> dict[str, Any]:
    """What makes a pod of an attempt a member of its gang, as a part of its manifest."""
    scheduling, group = job.spec.scheduling, build_pod_group(job)
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    spec: dict[str, Any] = {}
    if group and scheduling.gang == "volcano":
        annotations[VOLCANO_GROUP] = group["metadata"]["name"]
    elif group:
        labels[COSCHEDULING_GROUP] = group["metadata"]["name"]
    if group and not scheduling.scheduler_name:
        spec["schedulerName"] = SCHEDULERS[scheduling.gang]
    if is_kueue(job):
        # A group of its own for each attempt: Kueue counts pods that were deleted as members.
        labels |= {
            KUEUE_QUEUE: scheduling.queue or "",
            KUEUE_GROUP: f"{job.metadata.name}-{job.metadata.uid[:8]}-{attempt}",
        }
        annotations |= {KUEUE_COUNT: str(job.spec.nodes), KUEUE_RETRIABLE: "false"}
        spec["schedulingGates"] = [{"name": KUEUE_GATE}]
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def is_kueue(job: TrainingJob) -> bool:
    """Whether spec.scheduling.queue names one of Kueue's."""
    return bool(job.spec.scheduling.queue) and job.spec.scheduling.gang != "volcano"


def _digest(spec: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
