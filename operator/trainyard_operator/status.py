"""The typed status of a TrainingJob, and how its conditions change."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from trainyard_operator.api import ApiModel
from trainyard_operator.contract import HIGHEST_ATTEMPT, now_text
from trainyard_operator.curve import CURVE_POINTS

FIRST_YEAR, LAST_YEAR = 2000, 2999
Phase = Literal["Pending", "Suspended", "Starting", "Running", "Restarting", "Succeeded", "Failed"]
FINISHED: frozenset[Phase] = frozenset({"Succeeded", "Failed"})
HISTORY_LENGTH = 50
NODE_FAULTS = 32
"""Of so many nodes it is remembered how many attempts they broke."""
STORAGE_DEGRADED = "StorageDegraded"
"""Type of the condition that says whether checkpoints can be saved; absent if they always could."""

Time = Annotated[str, Field(max_length=64)]
Sentence = Annotated[str, Field(max_length=4096)]
Count = Annotated[int, Field(ge=0, le=HIGHEST_ATTEMPT)]
Whole = Annotated[int, Field(ge=0, le=2**53)]
"""What a program may count; the API server takes no larger numbers for whole."""


def _require_moment(text: str) -> str:
    """Raises ValueError for what no decision can be made from."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError("expected a time with its zone, in these centuries")
    return text


CurvePoint = Annotated[list[float], Field(min_length=2, max_length=2)]

Moment = Annotated[Time, AfterValidator(_require_moment)]
"""A time that decisions are made from, or that durations are measured from."""


class StatusModel(ApiModel):
    """A part of the status; keys of another version are ignored."""

    model_config = ConfigDict(extra="ignore")


class Condition(StatusModel):
    """One aspect of the job, as in every Kubernetes object."""

    type: str
    """Accepted, Suspended, Running, StorageDegraded, Succeeded or Failed."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str
    """One CamelCase word."""
    message: Sentence = ""
    """One sentence for a person."""
    observed_generation: int | None = None
    """Generation of the spec that it was judged from."""
    last_transition_time: Moment
    """When `status` last changed."""


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    ),
]
StatusT = TypeVar("StatusT", bound=StatusModel)


def find_condition(conditions: list[Condition], type_: str) -> Condition | None:
    """The condition of that type, if it was ever set."""
    return next((c for c in conditions if c.type == type_), None)


class Restarts(StatusModel):
    """Attempts that were followed by another one."""

    user: Count = 0
    """After the program's own failures; bounded by maxRestarts."""
    infrastructure: Count = 0
    """After faults of nodes, network or storage, and after edits of the spec."""


class Headway(StatusModel):
    """How far the job had come when an attempt last ended, and since when it stands still."""

    step: Whole = 0
    """Highest step that an attempt reported."""
    saved_step: Whole = 0
    """Highest step that a checkpoint is known to hold."""
    idle_restarts: Count = 0
    """Restarts since there was last a new step; after three in vain the job ends."""


class NodeFault(StatusModel):
    """A node on which attempts of this job failed."""

    node: Annotated[str, Field(max_length=253)]
    """Its name."""
    attempts: Count
    """How many attempts it broke; from two on it is avoided."""
    last_attempt: int
    """The newest of them."""


class NodeCounts(StatusModel):
    """Pods of the newest attempt."""

    desired: int = 0
    """How many there should be."""
    ready: int = 0
    """How many run."""
    succeeded: int = 0
    """How many ended well."""
    failed: int = 0
    """How many failed."""


class Progress(StatusModel):
    """How far training is, as rank 0 last reported."""

    stage: str | None = None
    """Name of the stage."""
    epoch: Whole | None = None
    """Epochs completed or under way."""
    epochs: Whole | None = None
    """Epochs in all."""
    step: Whole | None = None
    """Optimizer steps taken."""
    steps: Whole | None = None
    """Optimizer steps in all."""
    percent: Whole | None = None
    """Share of the steps, 0 to 100."""
    samples_per_second: float | None = None
    """Throughput of the whole gang."""
    estimated_completion_time: Time | None = None
    """When training should end at this rate."""
    metrics: dict[str, str] = {}
    """Newest value of each metric, as decimal text."""
    curve: Annotated[list[CurvePoint], Field(max_length=CURVE_POINTS)] | None = None
    """(step, value) of the metric that chooses the best checkpoint, at each evaluation; of a long
    run a selection."""
    last_report_time: Time | None = None
    """When rank 0 last reported."""
    attempt: Whole | None = None
    """The attempt that reported."""
    resumed_step: Whole | None = None
    """Step of the checkpoint that this attempt went on from."""


class SavedCheckpoint(StatusModel):
    """A verified checkpoint in storage."""

    step: Whole
    """Optimizer steps it holds."""
    epoch: Whole | None = None
    """Epoch it was saved in."""
    uri: str | None = None
    """Where it lies."""
    bytes: Whole | None = None
    """Size of all its parts."""
    sha256: str | None = None
    """Digest of its manifest."""
    time: Time | None = None
    """When it was complete."""
    metric: str | None = None
    """Metric that chose it as best."""
    value: str | None = None
    """Value of that metric, as decimal text."""


class Checkpoints(StatusModel):
    """Checkpoints in storage."""

    latest: SavedCheckpoint | None = None
    """The newest."""
    best: SavedCheckpoint | None = None
    """The best by checkpoint.keepBest."""
    kept: Whole | None = None
    """How many there are."""


class Goodput(StatusModel):
    """How much of the time since the first start did good, as rank 0 last reported."""

    productive_seconds: Whole | None = None
    """In steps and evaluations that the newest state rests on."""
    lost_steps: Whole | None = None
    """Steps that were done and had to be repeated."""
    restart_seconds: Whole | None = None
    """From an attempt's last sign of life to the next one's first step."""
    checkpoint_seconds: Whole | None = None
    """Training stood still to save."""
    ratio: Annotated[str, Field(max_length=16)] | None = None
    """Productive seconds in those since the first start, as decimal text."""


class ElasticStatus(StatusModel):
    """How many nodes a job with spec.elastic has now; absent while it has all of them."""

    nodes: int
    """Nodes of the newest attempt, or of the next one."""
    since: Moment
    """When that was decided."""
    tries: Count = 0
    """How often all nodes were tried again in vain, or are being tried."""


class Location(StatusModel):
    """A place in storage."""

    uri: str
    """Where it lies."""


class BoardLocation(Location):
    """Where curves are, and who shows them."""

    service: str | None = None
    """Service of the TensorBoard that tensorBoard.serve asked for; its port is 6006."""


class FailureStatus(StatusModel):
    """What ended the newest attempt that failed."""

    cause: str
    """One CamelCase word; docs/runbooks has a page for each."""
    message: Sentence
    """Who failed first and why, in one sentence."""
    rank: int | None = None
    """Global rank that failed first."""
    pod: str | None = None
    """Its pod."""
    node: str | None = None
    """Its node."""
    exit_code: int | None = None
    """Its exit code."""
    attempt: int
    """The attempt."""
    log_tail: list[str] = []
    """Its last log lines."""


class HistoryEntry(StatusModel):
    """One entry of the job's story."""

    time: Time
    """When."""
    attempt: Whole
    """In which attempt."""
    type: str
    """Created, Running, Restarted, Suspended, Succeeded, Failed, ..."""
    reason: str
    """One CamelCase word."""
    message: Sentence
    """One sentence."""
    step: Whole | None = None
    """Optimizer step at that moment."""
    lost_steps: Whole | None = None
    """Steps that have to be repeated."""


class Display(StatusModel):
    """What `kubectl get tj` prints, ready to read."""

    progress: str = ""
    """Percent, such as 12%."""
    step: str = ""
    """Steps taken and in all, such as 6120/51000."""
    loss: str = ""
    """Newest training loss."""
    nodes: str = ""
    """Running and desired pods, such as 2/2."""
    restarts: str = ""
    """Restarts of both kinds."""
    best: str = ""
    """Best checkpoint's metric, such as val_accuracy 0.981."""
    reason: str = ""
    """Why it is in its phase, in one CamelCase word."""
    node: str = ""
    """Node of the first pod."""


class JobStatus(StatusModel):
    """What became of the job; written by the operator alone."""

    phase: Phase | None = None
    """Derived from the rest: Pending, Suspended, Starting, Running, Restarting, Succeeded or
    Failed."""
    observed_generation: int | None = None
    """Generation of the spec that this status answers."""
    attempt: Count = 0
    """Number of the newest attempt, from 1."""
    formed_attempt: Count = 0
    """Newest attempt that every pod has begun; a pod missing from it was deleted."""
    pods_attempt: Count | None = None
    """Attempt that the pods were created for, where later ones began in the same pods."""
    attempt_time: Moment | None = None
    """When the newest attempt began."""
    next_attempt_time: Moment | None = None
    """When the next attempt may begin."""
    elastic: ElasticStatus | None = None
    """How many nodes the job has now, where spec.elastic lets it have fewer than spec.nodes."""
    restarts: Restarts = Restarts()
    """Attempts that were followed by another one."""
    headway: Headway | None = None
    """How far the job has come, and how many restarts brought nothing."""
    node_faults: Annotated[list[NodeFault], Field(max_length=NODE_FAULTS)] = []
    """Nodes that broke attempts, the newest last."""
    avoidance: Literal["Required", "Preferred"] | None = None
    """How pods keep off nodes that broke two attempts. Preferred once they found no place
    otherwise; unset means Required."""
    start_time: Moment | None = None
    """When the first attempt began."""
    completion_time: Moment | None = None
    """When the job ended."""
    nodes: NodeCounts = NodeCounts()
    """Pods of the newest attempt."""
    progress: Progress | None = None
    """How far training is."""
    checkpoints: Checkpoints = Checkpoints()
    """Checkpoints in storage."""
    goodput: Goodput | None = None
    """How much of the time since the first start did good."""
    logs: Location | None = None
    """Logs in storage."""
    tensor_board: BoardLocation | None = None
    """TensorBoard events in storage."""
    failure: FailureStatus | None = None
    """The newest failure, kept after the restart."""
    display: Display = Display()
    """What `kubectl get tj` prints, ready to read."""
    history: Annotated[list[HistoryEntry], Field(max_length=HISTORY_LENGTH)] = []
    """The newest entries of the job's story."""
    conditions: Conditions = []
    """Accepted, Suspended, Running, StorageDegraded, Succeeded and Failed."""

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if it was ever set."""
        return find_condition(self.conditions, type_)


def parse_status(raw: dict[str, Any] | None) -> JobStatus:
    """A job's status as stored."""
    return _consistent(parse_as(JobStatus, raw))


def parse_as(kind: type[StatusT], raw: dict[str, Any] | None) -> StatusT:
    """A status as stored. What somebody broke by hand counts as absent, field by field."""
    fields = dict(raw or {})
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        for problem in error.errors():
            fields.pop(str(problem["loc"][0]), None)
    return kind.model_validate(fields)


def _consistent(status: JobStatus) -> JobStatus:
    """Pods are made for an attempt that later ones follow, or there is nothing to say."""
    if status.pods_attempt is None or status.pods_attempt < status.attempt:
        return status
    return status.model_copy(update={"pods_attempt": None})


def with_condition(conditions: list[Condition], change: Condition) -> list[Condition]:
    """The full list with one condition changed; its transition time moves only with its status."""
    before = find_condition(conditions, change.type)
    if before and before.status == change.status:
        change = change.model_copy(update={"last_transition_time": before.last_transition_time})
    if before is None:
        return [*conditions, change]
    return [change if c.type == change.type else c for c in conditions]


def build_condition(
    type_: str, holds: bool, reason: str, message: str, *, generation: int, now: datetime
) -> Condition:
    """A condition that changed now."""
    return Condition(
        type=type_,
        status="True" if holds else "False",
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=now_text(now),
    )
