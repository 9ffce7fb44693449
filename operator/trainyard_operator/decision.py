"""What a decision asks for: actions on objects, events, a status, and when to look again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from trainyard_operator.contract import Order
from trainyard_operator.status import JobStatus


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object; one that exists already and has the same owner counts as created."""

    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePod:
    """Delete this very pod; one that is gone already counts as deleted."""

    name: str
    uid: str
    grace_seconds: int | None = None
    """None: the pod's own grace period; 0: without waiting for its node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePyTorchJob:
    """Delete this very PyTorchJob, before any pod: a pod that it lacks would be made anew."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the TrainingJob itself; its pods follow, what lies in storage stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAttempt:
    """Have a pod's launcher begin an attempt in place; one that did so already agrees again."""

    name: str
    uid: str
    address: str
    order: Order


Action = Create | DeletePod | DeletePyTorchJob | DeleteJob | OrderAttempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A transition that a person should see in `kubectl describe`."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of one look at one job. The status is written before any action is taken."""

    status: JobStatus
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    wake_at: datetime | None = None
    """When time alone changes the outcome; None: only a change of the job or its pods does."""
