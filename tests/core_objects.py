"""Jobs, pods and moments for tests of the operator's pure core."""

from datetime import UTC, datetime, timedelta
from typing import Any

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import EXIT_CAUSES, Cause, Summary
from trainyard_operator.desired import Defaults, node_name, spec_hash
from trainyard_operator.observed import PodRecord, SeenStandby, Terminated, Waiting
from trainyard_operator.status import JobStatus

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEFAULTS = Defaults(trainer_image="registry.example/trainer:1")
COMMAND = {"command": ["python", "train.py"], "image": "registry.example/mine:1"}
RECIPE = {"recipe": "classification", "storage": {"uri": "s3://bucket/prefix"}}


def at(seconds: float) -> datetime:
    """That long after the beginning of the test's time."""
    return T0 + timedelta(seconds=seconds)


def text(seconds: float) -> str:
    """The same, as Kubernetes writes it."""
    return at(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_job(
    nodes: int = 2, *, name: str = "nodules", metadata: dict[str, Any] | None = None, **spec: Any
) -> TrainingJob:
    """A job in the API's spelling; a command unless `spec` names a recipe."""
    program = {} if "recipe" in spec or "command" in spec else COMMAND
    return TrainingJob.model_validate(
        {
            "metadata": {"name": name, "namespace": "research", "uid": "uid-1"} | (metadata or {}),
            "spec": {"nodes": nodes, **program, **spec},
        }
    )


def make_pod(
    job: TrainingJob | None = None, index: int = 0, *, attempt: int = 1, **changes: Any
) -> PodRecord:
    """A running pod of one node of the job; `changes` are fields of the record."""
    job = job or make_job()
    fields: dict[str, Any] = {
        "name": node_name(job.metadata.name, index),
        "uid": f"pod-{attempt}-{index}",
        "attempt": attempt,
        "node_index": index,
        "phase": "Running",
        "created": T0,
        "node": f"gpu-{index}",
        "running": changes.get("phase", "Running") == "Running" and "terminated" not in changes,
        "scheduled": T0,
        "spec_hash": spec_hash(job.spec),
    }
    return PodRecord(**fields | changes)


def make_pods(job: TrainingJob, **changes: Any) -> tuple[PodRecord, ...]:
    """All pods of the job, alike."""
    return tuple(make_pod(job, index, **changes) for index in range(job.spec.nodes))


def pending(message: str = "", reason: str = "ContainerCreating") -> dict[str, Any]:
    """Fields of a pod that waits."""
    return {"phase": "Pending", "waiting": Waiting(reason=reason, message=message)}


def exited(code: int, message: str = "", *, reason: str = "", seconds: float = 0) -> dict[str, Any]:
    """Fields of a pod whose program ended with this code at that moment."""
    reason = reason or ("Completed" if code == 0 else "Error")
    ended = Terminated(exit_code=code, reason=reason, message=message, finished=at(seconds))
    return {"phase": "Failed" if code else "Succeeded", "terminated": ended}


def standing_by(
    code: int = 137,
    message: str = "rank 1 was killed by SIGKILL",
    *,
    attempt: int = 1,
    seconds: float = 5,
    **fields: Any,
) -> dict[str, Any]:
    """Fields of a pod whose ranks failed at that moment, and whose launcher waits for an order."""
    known = {"cause": EXIT_CAUSES.get(code, Cause.USER_EXIT), "rank": 1} | fields
    said = Summary(exit_code=code, message=message, **known)
    return {"standby": SeenStandby(attempt=attempt, summary=said, since=at(seconds))}


def summary(code: int, message: str, **fields: Any) -> str:
    """The termination message that the trainer leaves."""
    return Summary(exit_code=code, message=message, **fields).to_json()


def make_status(attempt: int = 1, **changes: Any) -> JobStatus:
    """A job whose newest attempt runs, formed, since T0."""
    fields = {
        "phase": "Running",
        "observed_generation": 1,
        "attempt": attempt,
        "formed_attempt": attempt,
        "attempt_time": text(0),
        "start_time": text(0),
    }
    return JobStatus(**fields | changes)
