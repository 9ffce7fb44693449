"""The typed TrainingSweep: the one source of its CRD, its documentation and its validation.

Each field's docstring is the text that `kubectl explain` prints.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from trainyard_operator.api import Anything, JobSpec, ObjectMeta
from trainyard_operator.apidata import Best
from trainyard_operator.apimodel import ApiModel, Name, Seconds, cel
from trainyard_operator.contract import API_VERSION
from trainyard_operator.sweep.names import SWEEP_KIND
from trainyard_operator.sweep.rules import (
    OBJECTIVE_RULES,
    PARAMETER_RULES,
    SPEC_RULES,
    STOPPING_DEFAULT,
    STOPPING_RULES,
    UNJUDGED_SPLITS,
    Rule,
    as_key,
    as_overrides,
    as_parameter,
    keyed,
)

MOST_TRIALS = 10_000
LONGEST_SWEEP_NAME = 43
"""With `-report` after it, it is the name of a TrainingJob."""

Key = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(as_key)]
Setting = Annotated[Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
Overrides = Annotated[Anything, AfterValidator(as_overrides)]
"""Dotted key of the recipe's configuration to its value."""


def _schema(rules: tuple[Rule, ...]) -> ConfigDict:
    return ConfigDict(
        json_schema_extra=cel(*((rule.cel, rule.message) for rule in rules if rule.cel))
    )


def _require(model: ApiModel, rules: tuple[Rule, ...]) -> None:
    """Raises ValueError with the sentence that the API server says."""
    for rule in rules:
        if not rule.holds(model):
            raise ValueError(rule.message.rstrip("."))


class Parameter(ApiModel):
    """What one key of the configuration may be: some values, or a range."""

    model_config = _schema(PARAMETER_RULES)

    values: Annotated[list[Setting], Field(min_length=1, max_length=256)] | None = None
    """These values, each as likely as the others."""
    distribution: Literal["uniform", "log_uniform", "int_uniform"] | None = None
    """How values lie between `min` and `max`: evenly; evenly in their logarithm; whole numbers,
    evenly, both ends included."""
    min: float | None = None
    """Smallest value; for log_uniform the value itself, such as 1e-5, and not its exponent."""
    max: float | None = None
    """Largest value."""
    step: float | None = None
    """Only `min` and what lies a multiple of this above it; grid needs it for a range."""

    @model_validator(mode="before")
    @classmethod
    def _has_keys(cls, given: Any) -> Any:
        return as_parameter(given)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require(self, PARAMETER_RULES)
        return self


class NamedTrial(ApiModel):
    """One variant of an ablation study."""

    name: Name
    """What the report calls it, such as A3."""
    overrides: Overrides = {}
    """Dotted key of the configuration to its value; empty: the template as it is."""


class Objective(ApiModel):
    """By what trials are compared."""

    model_config = _schema(OBJECTIVE_RULES)

    metric: Name
    """Name of a metric that every trial reports, such as val_accuracy."""
    goal: Literal["maximize", "minimize"]
    """Whether larger or smaller is better."""

    @property
    def is_evaluated(self) -> bool:
        """Whether it can choose a checkpoint."""
        return not self.metric.startswith(UNJUDGED_SPLITS)

    def as_best(self) -> Best:
        """The same as spec.checkpoint.keepBest of a job has it."""
        return Best(metric=self.metric, mode="max" if self.goal == "maximize" else "min")


class EarlyStopping(ApiModel):
    """Stop trials that do badly; each keeps its checkpoint."""

    model_config = _schema(STOPPING_RULES)

    method: Literal["median", "asha"]
    """median: a trial whose best value is worse than the median of what the others had at its step.
    asha: of those that reach a rung only the best go on; one that was stopped is resumed from its
    checkpoint if it belongs to them later."""
    min_steps: Annotated[int, Field(ge=1, le=10**12)]
    """Optimizer steps before a trial is judged; for asha its first rung."""
    min_trials: Annotated[int, Field(ge=1, le=1000)] = STOPPING_DEFAULT
    """median: trials that must have come as far before one is judged."""
    reduction_factor: Annotated[int, Field(ge=2, le=16)] = STOPPING_DEFAULT
    """asha: of so many trials one goes on, and each rung has so many times the steps of the one
    before."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require(self, STOPPING_RULES)
        return self


class FailurePolicy(ApiModel):
    """What becomes of the sweep when trials fail."""

    max_failed_trials: Annotated[int, Field(ge=0, le=MOST_TRIALS)] | None = None
    """With more failed trials than this the sweep fails and stops the others; unset: each is only
    counted and reported, and the sweep fails if none succeeds."""
    replace: bool = False
    """random and bayes: another trial takes the place of one that failed."""


class SweepRunPolicy(ApiModel):
    """How the sweep lives and dies."""

    suspend: bool = False
    """True: trials that run are suspended with a checkpoint, and none begins until it is false."""
    active_deadline_seconds: Seconds | None = None
    """Longest time from the first trial's start to the end; unset means no bound."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """Seconds after the end until the TrainingSweep and its trials are deleted; unset means never.
    What lies in storage stays."""


class TemplateMeta(ApiModel):
    """Labels and annotations of every trial."""

    labels: Annotated[dict[str, str], Field(max_length=64)] = {}
    """Labels of the TrainingJobs."""
    annotations: Annotated[dict[str, str], Field(max_length=64)] = {}
    """Annotations of the TrainingJobs."""


class TrialTemplate(ApiModel):
    """The TrainingJob that every trial is, before its overrides."""

    metadata: TemplateMeta | None = None
    """Labels and annotations of the TrainingJobs."""
    spec: JobSpec
    """Spec of the TrainingJobs. A recipe takes a trial's settings as overrides; a program given as
    command as arguments, `--key=value`."""


class SweepSpec(ApiModel):
    """Which trials, how many at a time, and by what they are compared."""

    model_config = _schema(SPEC_RULES)

    template: TrialTemplate
    """The TrainingJob that every trial is, before its overrides."""
    method: Annotated[
        Literal["grid", "random", "bayes", "folds", "list"],
        Field(json_schema_extra=cel(("self == oldSelf", "method cannot be changed."))),
    ]
    """grid: every combination of values. random: drawn from the parameters. bayes: drawn where
    trials did well so far (TPE). folds: a cross-validation. list: the trials as they are given."""
    parameters: (
        Annotated[dict[str, Parameter], Field(min_length=1, max_length=32), AfterValidator(keyed)]
        | None
    ) = None
    """grid, random and bayes: dotted key of the configuration, such as training.learning_rate, to
    what it may be."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Folds of the cross-validation, numbered from 0. With grid and list each setting is trained on
    every fold, and compared by its mean."""
    fold_parameter: Key = "data.fold"
    """Dotted key of the configuration that takes the fold's number; with training.seed, grid and
    list repeat each setting so many times."""
    trials: (
        Annotated[
            list[NamedTrial],
            Field(
                min_length=1,
                max_length=256,
                json_schema_extra={
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                },
            ),
        ]
        | None
    ) = None
    """list: the variants of an ablation study, in order."""
    objective: Objective
    """By what trials are compared. Unless the template's checkpoint.keepBest says otherwise, it
    also chooses each trial's best checkpoint."""
    early_stopping: EarlyStopping | None = None
    """Stop trials that do badly; unset: each runs to its end."""
    parallelism: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many trials run at a time."""
    max_trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = None
    """Most trials in all, those of all folds counted; required for random and bayes, unset for the
    others means all."""
    seed: Annotated[
        int,
        Field(
            ge=0,
            le=2**31 - 1,
            json_schema_extra=cel(("self == oldSelf", "seed cannot be changed.")),
        ),
    ] = 0
    """Of what is drawn: two sweeps with one seed try the same."""
    failure_policy: FailurePolicy = FailurePolicy()
    """What becomes of the sweep when trials fail."""
    run_policy: SweepRunPolicy = SweepRunPolicy()
    """How the sweep lives and dies."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require(self, SPEC_RULES)
        names = [trial.name for trial in self.trials or ()]
        if len(set(names)) < len(names):
            raise ValueError("each name in trials must be given once")
        return self


class TrainingSweep(ApiModel):
    """Folds, ablations and searches: many TrainingJobs as one object."""

    api_version: Literal["trainyard.dev/v1alpha1"] = API_VERSION
    kind: Literal["TrainingSweep"] = SWEEP_KIND
    metadata: ObjectMeta
    spec: SweepSpec
