"""Jobs in the middle of their lives, and decisions in short, for tests of the plan."""

from dataclasses import replace

from core_objects import (
    DEFAULTS,
    at,
    exited,
    make_job,
    make_pod,
    make_pods,
    make_status,
    summary,
    text,
)

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import Cause
from trainyard_operator.decision import Create, Decision, DeletePod, OrderAttempt
from trainyard_operator.observed import Observed, PodRecord
from trainyard_operator.plan import plan
from trainyard_operator.status import Condition, FailureStatus, JobStatus

JOB = make_job()
MASTER, WORKER = make_pods(JOB)
BOTH = (MASTER, WORKER)
RUNNING = make_status()
STARTING = make_status(phase="Starting")
FORMING = make_status(phase="Starting", formed_attempt=0)
DONE, FAILED = make_pods(JOB, **exited(0)), make_pod(JOB, 1, **exited(1, seconds=5))
OWN = exited(1, summary(1, "rank 1: bad", cause=Cause.USER_EXIT, rank=1))
OWN_FAULT = (MASTER, make_pod(JOB, 1, **OWN))
STORED = make_pod(JOB, **exited(0, summary(0, "done", result=True), seconds=5))
ALL_CREATED = ["create service", "create master-0", "create worker-0"]
ENDED = ["delete master-0 in 5", "delete worker-0 in 5"]
STOPPED = ["delete master-0", "delete worker-0"]


def policy(nodes: int = 2, **fields) -> TrainingJob:
    return make_job(nodes, runPolicy=fields)


def failed(cause: str, *, generation: int = 1, **changes) -> JobStatus:
    failure = FailureStatus(cause=cause, message="It failed.", attempt=1)
    condition = Condition(
        type="Failed",
        status="True",
        reason=cause,
        observed_generation=generation,
        last_transition_time=text(0),
    )
    fields = {"phase": "Failed", "completion_time": text(0), "conditions": [condition]}
    return make_status(**{"failure": failure} | fields | changes)


def restarting(due: float, cause: str = "UserExit", **changes) -> JobStatus:
    failure = FailureStatus(cause=cause, message="It failed.", attempt=1)
    fields = {"phase": "Restarting", "failure": failure, "next_attempt_time": text(due)}
    return make_status(**fields | changes)


def edited(job: TrainingJob, **spec) -> TrainingJob:
    """The job under another spec, a generation later."""
    return make_job(**{"nodes": job.spec.nodes} | spec, metadata={"generation": 2})


def leaving(pod: PodRecord, deadline: float) -> PodRecord:
    return replace(pod, deadline=at(deadline))


def acts(decision: Decision) -> list[str]:
    """The actions in short."""
    return [_short(action) for action in decision.actions]


def _short(action) -> str:
    match action:
        case Create(manifest):
            is_service = manifest["kind"] == "Service"
            name = manifest["metadata"]["name"].removeprefix("nodules-")
            return "create service" if is_service else f"create {name}"
        case DeletePod(name=name, grace_seconds=grace):
            suffix = "" if grace is None else f" in {grace}"
            return f"delete {name.removeprefix('nodules-')}{suffix}"
        case OrderAttempt(name=name, order=order):
            return f"order {name.removeprefix('nodules-')} {order.attempt} on {order.master_port}"
    return "delete job"


TTL = policy(ttlSecondsAfterFinished=60)
GROWN = edited(JOB, nodes=3)
MENDED = edited(JOB, args=["--fixed"])
FAULTY = make_job(**{"recipe": "classification"})


def decide(status: JobStatus, *pods: PodRecord, job=JOB, now: float = 10, **observed) -> Decision:
    return plan(job, status, Observed(pods=pods, **observed), at(now), DEFAULTS)
