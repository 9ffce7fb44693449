"""The typed TrainingJob: the one source of its CRD, its documentation and its validation.

Each field's docstring is the text that `kubectl explain` prints. Python names are snake case, the
API's are the same words in camel case.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from trainyard_operator.apidata import (
    Checkpoint,
    Dataset,
    Logs,
    SecretRef,
    Storage,
    TensorBoard,
)
from trainyard_operator.apimodel import (
    LONGEST_NAME,
    NAME_PATTERN,
    ApiModel,
    Name,
    Quantity,
    Seconds,
    Text,
    cel,
)
from trainyard_operator.contract import API_VERSION, JOB_KIND

__all__ = [
    "LONGEST_NAME",
    "MAX_NODES",
    "NAME_PATTERN",
    "ApiModel",
    "JobSpec",
    "ObjectMeta",
    "SecretRef",
    "Storage",
    "TrainingJob",
]

MAX_NODES = 1024


class KeySelector(ApiModel):
    """A key of a ConfigMap in the job's namespace."""

    name: Name
    """Name of the ConfigMap."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """Key whose value is YAML text."""


class ConfigSource(ApiModel):
    """Where more configuration comes from."""

    config_map_key_ref: KeySelector
    """A key of a ConfigMap in the job's namespace; its YAML is merged below `config`."""


class Resources(ApiModel):
    """Compute resources of the training container, as in a pod."""

    limits: Annotated[dict[str, Quantity], Field(max_length=32)] = {}
    """Upper bounds such as {cpu: "4", memory: 16Gi, nvidia.com/gpu: 1}."""
    requests: Annotated[dict[str, Quantity], Field(max_length=32)] = {}
    """What the scheduler reserves; unset entries follow `limits`."""


class Elastic(ApiModel):
    """Bounds between which the number of nodes may follow what the cluster has."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("self.minNodes <= self.maxNodes", "minNodes must not exceed maxNodes.")
        )
    )

    min_nodes: Annotated[int, Field(ge=1, le=MAX_NODES)]
    """Fewest nodes that an attempt may run with."""
    max_nodes: Annotated[int, Field(ge=1, le=MAX_NODES)]
    """Most nodes that `nodes` may ask for; no attempt has more than `nodes`."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_nodes > self.max_nodes:
            raise ValueError("minNodes must not exceed maxNodes")
        return self


class Backoff(ApiModel):
    """The wait before a new attempt; it doubles with each failure without a new step in between."""

    initial_seconds: Annotated[int, Field(ge=0, le=3600)] = 5
    """First wait."""
    max_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """Longest wait."""


class RunPolicy(ApiModel):
    """How the job lives and dies."""

    suspend: bool = False
    """True: pods are deleted after a checkpoint, and nothing runs until it is false again."""
    active_deadline_seconds: Seconds | None = None
    """Longest time from the first start to the end; unset means no bound."""
    startup_deadline_seconds: Seconds = 900
    """Longest time from pod creation until every pod runs."""
    stall_timeout_seconds: Annotated[int, Field(ge=10, le=10**9)] = 600
    """Longest time without a step before a rank is taken for hung."""
    max_restarts: Annotated[int, Field(ge=0, le=1000)] = 3
    """Restarts after the program's own failures; faults of the infrastructure do not count."""
    restart_backoff: Backoff = Backoff()
    """Wait before each new attempt."""
    clean_pod_policy: Literal["All", "Running", "None"] = "Running"
    """Which pods are deleted at the end."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """Seconds after the end until the TrainingJob is deleted; unset means never. What lies in
    storage stays."""


class Scheduling(ApiModel):
    """Where pods may run."""

    scheduler_name: Annotated[str, Field(max_length=253)] | None = None
    """Scheduler of the pods; unset means the cluster's default, or that of `gang`."""
    gang: Literal["none", "volcano", "coscheduling"] = "none"
    """Gang scheduler whose PodGroup the pods join, so that all of them get places or none."""
    queue: Annotated[str, Field(max_length=63)] | None = None
    """With gang volcano, one of Volcano's queues; else a LocalQueue of Kueue, which the pods wait
    in at each attempt."""
    priority_class_name: Annotated[str, Field(max_length=253)] | None = None
    """Priority class of the pods."""
    avoid_failed_nodes: bool = True
    """Keep new attempts off nodes that broke two attempts of this job, while there are others."""


Anything = Annotated[
    dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
]


class JobSpec(ApiModel):
    """What to run, how wide, and where its results go."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.recipe) != has(self.command)",
                "set exactly one of recipe (a recipe of the trainer) and command (any PyTorch "
                "program in image).",
            ),
            (
                "has(self.recipe) || !(has(self.config) || has(self.configFrom) || "
                "has(self.overrides))",
                "config, configFrom and overrides belong to a recipe; give a command its "
                "arguments in args.",
            ),
            (
                "!has(self.elastic) || (self.elastic.minNodes <= self.nodes && "
                "self.nodes <= self.elastic.maxNodes)",
                "nodes must lie between elastic.minNodes and elastic.maxNodes.",
            ),
        )
    )

    recipe: Name | None = None
    """Recipe of the trainer, such as classification; `trainyard recipes` lists them."""
    config: Anything | None = None
    """Configuration, merged over the recipe's defaults."""
    config_from: ConfigSource | None = None
    """More configuration, merged between the defaults and `config`."""
    overrides: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=256)] | (
        None
    ) = None
    """Dotted assignments such as model.base_filters=64; they have the last word."""
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Container image; unset means the operator's trainer image."""
    command: Annotated[list[Text], Field(min_length=1, max_length=64)] | None = None
    """Any program, in place of a recipe; it gets the same environment."""
    args: Annotated[list[Text], Field(max_length=256)] | None = None
    """Arguments of `command`."""
    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)] = 1
    """Number of pods."""
    processes_per_node: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1, le=64)],
        Field(
            json_schema_extra=cel(
                (
                    "type(self) == int ? self >= 1 && self <= 64 : self == 'auto'",
                    "processesPerNode must be auto or a number from 1 to 64.",
                ),
                **{"x-kubernetes-int-or-string": True},
            )
        ),
    ] = "auto"
    """Ranks per pod; auto means the number of GPUs in `resources`, or 1 without."""
    resources: Resources = Resources()
    """Compute resources of each pod."""
    elastic: Elastic | None = None
    """Go on with fewer nodes where the cluster has no room for `nodes` of them, and with all of
    them once it has; the batch of a recipe's step stays the same. Unset: the number is fixed."""
    template: Anything | None = None
    """Overlay of the pod template: strategic merge, containers by name (the trainer's is
    pytorch)."""
    storage: Storage | None = None
    """Where results go; unset means the operator's default."""
    dataset: Dataset | None = None
    """Data to train on; unset where the program brings its own."""
    checkpoint: Checkpoint = Checkpoint()
    """When checkpoints are written and which are kept."""
    logs: Logs = Logs()
    """Logs of every rank."""
    tensor_board: TensorBoard = TensorBoard()
    """TensorBoard events."""
    run_policy: RunPolicy = RunPolicy()
    """How the job lives and dies."""
    scheduling: Scheduling = Scheduling()
    """Where pods may run."""
    backend: Annotated[
        Literal["pods", "kubeflow"],
        Field(json_schema_extra=cel(("self == oldSelf", "backend cannot be changed."))),
    ] = "pods"
    """pods: the operator's own PyTorchJob-style pods; kubeflow: a kubeflow.org/v1 PyTorchJob of an
    attempt, whose pods Kubeflow's training-operator makes. Cannot be changed."""

    @model_validator(mode="after")
    def _recipe_xor_command(self) -> Self:
        if (self.recipe is None) == (self.command is None):
            raise ValueError(
                "set exactly one of recipe (a recipe of the trainer) and command (any PyTorch "
                "program in image)"
            )
        if self.command and (self.config or self.config_from or self.overrides):
            raise ValueError(
                "config, configFrom and overrides belong to a recipe; give a command its "
                "arguments in args"
            )
        return self

    @property
    def ranks_per_node(self) -> int:
        """`processes_per_node`, with auto resolved."""
        if self.processes_per_node != "auto":
            return self.processes_per_node
        limits = self.resources.limits
        gpus = [str(count) for name, count in limits.items() if name.endswith("/gpu")]
        # The API server refuses a pod with any other count, in words for a person.
        return max(sum(int(count) for count in gpus if count.isdecimal()), 1)


class ObjectMeta(BaseModel):
    """The part of metadata that decisions need."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    resource_version: str | None = None


class TrainingJob(ApiModel):
    """One training run: what it is and what became of it."""

    api_version: Literal["trainyard.dev/v1alpha1"] = API_VERSION
    kind: Literal["TrainingJob"] = JOB_KIND
    metadata: ObjectMeta
    spec: JobSpec
