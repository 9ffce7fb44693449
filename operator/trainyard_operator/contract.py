"""What operator, trainer and client agree on: names, exit codes, report shapes.

Only the standard library is imported here, so that all three can use it. Every label, environment
variable and exit code of Trainyard has its one definition in this module, but for those of sweeps,
which `sweep/names.py` and `sweep/table.py` hold. The keys of storage are in `layout.py`.
"""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any, Final, Literal, Self

API_VERSION: Final = "trainyard.dev/v1alpha1"
GROUP, VERSION = API_VERSION.split("/")
JOB_KIND: Final = "TrainingJob"
PYTORCHJOB_API = "kubeflow.org/v1"
PYTORCHJOB_KIND = "PyTorchJob"
JOB_PLURAL = "trainingjobs"

S3Dialect = Literal["aws", "strict", "legacy"]
"""aws: checksums as botocore sends them, conditional writes and batch deletes. strict: conditional
writes alone. legacy: none of them."""

CONTAINER = "pytorch"
"""Name of the training container; PyTorchJob tools look for it."""


class Label:
    """Labels of pods and services."""

    KUBEFLOW_JOB = "training.kubeflow.org/job-name"
    KUBEFLOW_REPLICA_TYPE = "training.kubeflow.org/replica-type"
    KUBEFLOW_REPLICA_INDEX = "training.kubeflow.org/replica-index"
    KUBEFLOW_JOB_ROLE = "training.kubeflow.org/job-role"
    JOB = "trainyard.dev/job"
    JOB_UID = "trainyard.dev/job-uid"
    ATTEMPT = "trainyard.dev/attempt"
    NODE_INDEX = "trainyard.dev/node-index"
    APP_NAME = "app.kubernetes.io/name"
    APP_INSTANCE = "app.kubernetes.io/instance"
    APP_COMPONENT = "app.kubernetes.io/component"
    APP_MANAGED_BY = "app.kubernetes.io/managed-by"


class Annotation:
    """Annotations of pods and jobs."""

    SPEC_HASH = "trainyard.dev/spec-hash"
    """Of a pod: the spec that it was built from."""
    RUN_TARGET = "trainyard.dev/run-target"
    """Of a job of `trainyard run`: what was typed after that."""


class Env:
    """Environment variables of the training container, beside those of torch.distributed."""

    JOB = "TRAINYARD_JOB"
    NAMESPACE = "TRAINYARD_NAMESPACE"
    JOB_UID = "TRAINYARD_JOB_UID"
    ATTEMPT = "TRAINYARD_ATTEMPT"
    POD = "TRAINYARD_POD"
    NODE_NAME = "TRAINYARD_NODE_NAME"
    NODES = "TRAINYARD_NODES"
    NODE_INDEX = "TRAINYARD_NODE_INDEX"
    PROCESSES_PER_NODE = "TRAINYARD_PROCESSES_PER_NODE"
    RUN = "TRAINYARD_RUN"
    """JSON object of a RunRequest."""
    CONFIG_FROM = "TRAINYARD_CONFIG_FROM"
    """YAML text of spec.configFrom."""
    STORAGE_URI = "TRAINYARD_STORAGE_URI"
    """spec.storage.uri as given; a run lives below it at `run_prefix`."""
    STORAGE_ENDPOINT = "TRAINYARD_STORAGE_ENDPOINT"
    STORAGE_REGION = "TRAINYARD_STORAGE_REGION"
    STORAGE_COMPAT = "TRAINYARD_STORAGE_COMPAT"
    PROGRESS_PORT = "TRAINYARD_PROGRESS_PORT"
    TERMINATION_LOG = "TRAINYARD_TERMINATION_LOG"
    """File that takes the termination summary; /dev/termination-log in a pod."""
    SCRATCH = "TRAINYARD_SCRATCH"
    """Writable directory of one pod, of all its attempts; gone when it ends."""
    IMAGE = "TRAINYARD_IMAGE"
    """Name of the container's image, for result.json, where whoever built it set it."""
    NODE_MEMORY = "TRAINYARD_NODE_MEMORY"
    """Directory in the node's memory that outlives a rank: the last snapshot is kept there."""
    ORDER_TOKEN = "TRAINYARD_ORDER_TOKEN"  # noqa: S105  the variable's name
    """What an Order must bring along; made for each gang."""

    SHARED = "TRAINYARD_SHARED"
    """Folder that a program's container shares with its companion."""
    PROGRAM = "TRAINYARD_PROGRAM"
    """Of a companion: the program's command and arguments, as a JSON list."""
    CHECKPOINT_DIR = "TRAINYARD_CHECKPOINT_DIR"
    """Folder of a program that is copied to storage, and put back before the next attempt."""
    DATASET_DIR = "TRAINYARD_DATASET_DIR"
    """Where a program finds spec.dataset."""
    DATASET_CACHE = "TRAINYARD_DATASET_CACHE"
    """Where the volume of spec.dataset.cache is mounted."""
    PROGRESS_FILE = "TRAINYARD_PROGRESS_FILE"
    """A program may keep its progress there: a JSON object with fields of status.progress."""
    PROGRESS_URL = "TRAINYARD_PROGRESS_URL"
    """Or post the same object there."""
    KUBEFLOW_URL = "KUBEFLOW_TRAINER_SERVER_URL"
    """Where Transformers' KubeflowCallback, and Kubeflow's SDK, post a program's progress."""
    KUBEFLOW_TOKEN = "KUBEFLOW_TRAINER_SERVER_TOKEN"  # noqa: S105  the variable's name
    """File with what they bring along."""


PROGRAM_PATH, KUBEFLOW_PATH = "/program", "/kubeflow"
"""POST: a program's progress in our own spelling, and in that of Kubeflow's TrainJob status."""
HIGHEST_ATTEMPT = 10**9
"""Whoever claims to work under a higher number is not believed."""
PROGRESS_PORT = 9464
"""Port on which the first node's rank 0 serves /progress (JSON) and /metrics (Prometheus)."""
MASTER_PORT = 23456
"""Rendezvous port of torch.distributed, PyTorchJob's default."""
PROGRESS_PATH = "/progress"
STANDBY_PATH = "/standby"
"""GET with the headers of `bearer`: a Standby as JSON, 204 while ranks run, or 403 for a wrong
token. `?wait=<seconds>` answers later, but at once when the launcher begins to stand by."""
STANDBY_WAIT_SECONDS = 20
"""The longest `wait`; a connection without traffic is cut by many networks."""
ORDER_PATH = "/order"
"""POST: an Order as JSON. 202: taken; 403: the wrong token; 409: not the attempt that is next."""
STANDBY_SECONDS = 30
"""How long a launcher whose ranks failed waits for an Order before it ends as they did."""
TERMINATION_LOG = "/dev/termination-log"
TERMINATION_BYTES = 4096
"""A kubelet keeps no more than this of a termination message."""
REPORT_FILE = "report.json"
"""Rank 0 keeps its newest Report in this file of the scratch directory."""


class ExitCode(IntEnum):
    """Exit codes of the training container. Everything else is the user's own failure."""

    DONE = 0
    CHECKPOINTED = 75
    """Stopped on request after a checkpoint: a retry is free."""
    PEER_LOST = 76
    """Another rank died or hung: not this rank's fault."""
    CONFIGURATION = 78
    """The job cannot run as written: never retried."""


class Cause(StrEnum):
    """Why an attempt ended. Values are CamelCase: they are condition reasons and runbook names."""

    USER_EXIT = "UserExit"
    OUT_OF_MEMORY = "OutOfMemory"
    CONFIGURATION = "ConfigurationError"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    POD_DELETED = "PodDeleted"
    PEER_LOST = "PeerLost"
    IMAGE_PULL = "ImagePull"
    UNSCHEDULABLE = "Unschedulable"
    STALLED = "Stalled"
    STARTUP_DEADLINE = "StartupDeadline"
    DEADLINE = "DeadlineExceeded"
    STORAGE = "StorageUnreachable"
    CHECKPOINTED = "Checkpointed"


EXIT_CAUSES: Final[dict[int, Cause]] = {
    ExitCode.CHECKPOINTED: Cause.CHECKPOINTED,
    ExitCode.PEER_LOST: Cause.PEER_LOST,
    ExitCode.CONFIGURATION: Cause.CONFIGURATION,
}
"""What an exit code alone says; every other failure is the program's own."""

USER_CAUSES = frozenset({Cause.USER_EXIT, Cause.OUT_OF_MEMORY, Cause.STALLED})
"""Only these use up spec.runPolicy.maxRestarts."""

FATAL_CAUSES = frozenset({Cause.CONFIGURATION, Cause.STARTUP_DEADLINE, Cause.DEADLINE})
"""These end the job at once."""


def bearer(token: str) -> dict[str, str]:
    """The header that shows a gang's order token."""
    return {"Authorization": f"Bearer {token}"}


LINE_LABEL = re.compile(r"\[(rank|node) (\d+)\] ")
"""Begins a line of a pod's output, but for those of rank 0."""


def rank_label(rank: int) -> str:
    """What LINE_LABEL finds before a line of a rank."""
    return f"[rank {rank}] "


def node_label(node_index: int) -> str:
    """What LINE_LABEL finds before a line of the launcher's own."""
    return f"[node {node_index}] "


def attempt_line(attempt: int) -> str:
    """What a launcher says before it starts its ranks again in place."""
    return f"attempt {attempt} is ordered: ranks start again in place"


def attempt_begun(line: str) -> int | None:
    """The attempt to which all that follows in a pod's output belongs, if this line says so."""
    label = LINE_LABEL.match(line)
    found = re.search(r"\battempt (\d+) is", line) if label and label[1] == "node" else None
    return int(found[1]) if found and line.endswith(attempt_line(int(found[1]))) else None


def now_text(now: datetime | None = None) -> str:
    """A time as Kubernetes writes it: UTC, whole seconds."""
    return (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the operator asks the trainer to run; travels as JSON in `Env.RUN`."""

    recipe: str = ""
    """Empty for a program that is given as command."""
    config: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    dataset_uri: str | None = None
    dataset_path: str | None = None
    checkpoint: dict[str, Any] = field(default_factory=dict)
    """spec.checkpoint, in the API's spelling."""
    logs: dict[str, Any] = field(default_factory=dict)
    tensorboard: bool = True
    stall_timeout_seconds: int = 600

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        # Not asdict(), which copies: each pass of the operator measures the text of a spec.
        return json.dumps(vars(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "RunRequest":
        """Raises TypeError for a field that this version does not know."""
        return cls(**json.loads(text))


@dataclass(frozen=True, kw_only=True)
class _Message:
    """What travels as JSON between two processes that may be of different versions."""

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Ignores unknown keys: a newer version may have sent them. Raises ValueError."""
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError(f"expected a JSON object, found {type(data).__name__}")
        names = {f.name for f in dataclasses.fields(cls)}
        try:
            return cls(**{key: value for key, value in data.items() if key in names})
        except TypeError as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Report(_Message):
    """What rank 0 serves at PROGRESS_PATH; spellings are those of TrainingJob's status.

    Fields hold None where nothing is known yet; the operator copies what is there.
    """

    attempt: int
    time: str
    progress: dict[str, Any] | None = None
    """stage, epoch, epochs, step, steps, percent, samplesPerSecond, estimatedCompletionTime,
    metrics (name to decimal text)."""
    latest: dict[str, Any] | None = None
    """step, epoch, uri, bytes, sha256, time."""
    best: dict[str, Any] | None = None
    """As latest, with metric and value."""
    kept: int | None = None
    resumed_step: int | None = None
    """Step of the checkpoint that this attempt went on from; None from scratch."""
    warning: str | None = None
    """One sentence on something degraded, such as a checkpoint set aside as corrupt."""
    storage_warning: str | None = None
    """One sentence on storage that is away, full or refusing; None while it is well. `warning` says
    it, too."""
    goodput: dict[str, Any] | None = None
    """productiveSeconds, lostSteps, restartSeconds, checkpointSeconds, ratio (decimal text)."""


@dataclass(frozen=True, kw_only=True)
class Summary(_Message):
    """The termination message of a pod: how it ended, in one sentence, and rank 0's last report."""

    exit_code: int
    message: str
    cause: str | None = None
    rank: int | None = None
    """Global rank that failed first on this node; None where no rank did."""
    log_tail: list[str] = field(default_factory=list)
    report: dict[str, Any] | None = None
    """The last Report, as a dict; only from the first node."""
    result: bool = False
    """Whether RESULT_FILE was stored."""
    waited: bool = False
    """Whether that rank only waited for others that made no progress."""
    ended: float | None = None
    """When the program ended, as Unix time: Kubernetes keeps whole seconds only."""

    def to_json(self) -> str:
        """At most TERMINATION_BYTES long: first the log tail is cut, then message, then report."""
        summary = self
        while len(text := json.dumps(dataclasses.asdict(summary))) > TERMINATION_BYTES:
            summary = summary._shorter()
        return text

    def _shorter(self) -> "Summary":
        if self.log_tail:
            return dataclasses.replace(self, log_tail=self.log_tail[1:])
        if len(self.message) > 300 or not self.report:  # JSON makes up to 12 bytes of a character.
            return dataclasses.replace(self, message=self.message[: len(self.message) * 3 // 4])
        return dataclasses.replace(self, report=None)


@dataclass(frozen=True, kw_only=True)
class Standby(_Message):
    """A launcher whose ranks have ended, and which could start them again in place."""

    attempt: int
    """The attempt that ended."""
    summary: dict[str, Any]
    """How it ended: the Summary that would be its pod's last word."""


@dataclass(frozen=True, kw_only=True)
class Order(_Message):
    """Start the ranks of this node again, in place, as the next attempt."""

    token: str
    attempt: int
    master_port: int
    """Another one than the last attempt's, so that no rank meets a dying one."""
