"""What a recipe can be told: typed sections, their defaults, and how layers of YAML become one.

Layers, the later one wins: the recipe's defaults, spec.configFrom, spec.config, then spec.overrides
(`training.epochs=3`, a dotted key and a YAML value). Nothing here imports torch, so that a client
validates a job without it. A field's docstring is its documentation wherever it is shown.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainyard_operator.numbers import WithNumbers
from trainyard_trainer.aliases import Alias, Layer, group_values, read_layer
from trainyard_trainer.config_errors import model_in, sentence
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.yamlkeys import repeated_key


class Section(WithNumbers):
    """A group of keys: frozen, unknown keys refused, a docstring under each field."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )


class OptimizerConfig(Section):
    """Which optimizer, and what it needs beside the learning rate."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """Algorithm."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled for adamw, an L2 penalty for adam and sgd. 0 means none."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """For sgd only. 0 means none."""
    nesterov: bool = False
    """For sgd only: Nesterov's momentum."""
    betas: tuple[float, float] = (0.9, 0.999)
    """For adam and adamw: decay rates of the two moments, each from 0 up to 1."""
    eps: float = Field(default=1e-8, gt=0)
    """For adam and adamw: added to the denominator."""
    fused: bool | None = None
    """One kernel for the whole update: up to three times as fast. Unset means where all parameters
    are floating-point numbers; false is for sparse gradients, which it does not take."""


class ScheduleConfig(Section):
    """How the learning rate moves during a stage."""

    name: Literal[
        "constant", "cosine", "one_cycle", "step", "multi_step", "exponential", "plateau"
    ] = "constant"
    """Shape after the warm-up."""
    interval: Literal["step", "epoch"] = "step"
    """Whether the rate changes at every optimizer step or once an epoch."""
    warmup_epochs: float = Field(default=0, ge=0)
    """Linear rise to the full rate, in epochs. 0 means none. one_cycle has its own."""
    min_lr: float = Field(default=0, ge=0)
    """Where cosine, one_cycle and plateau end."""
    period_epochs: int = Field(default=30, ge=1)
    """For step: epochs between two drops."""
    milestones: tuple[int, ...] = ()
    """For multi_step: the epochs (of the stage) at which the rate drops."""
    gamma: float = Field(default=0.1, gt=0, le=1)
    """For step, multi_step and plateau: the factor of one drop. For exponential: per epoch."""
    patience: int = Field(default=5, ge=0)
    """For plateau: evaluations without improvement before a drop."""
    metric: str | None = None
    """For plateau: what must improve. Unset means the recipe's own main metric."""
    mode: Literal["min", "max"] = "min"
    """For plateau with a metric: whether smaller or larger is better."""


class EarlyStoppingConfig(Section):
    """When to end a stage before its last epoch."""

    metric: str | None = None
    """What must improve. Unset means the recipe's own main metric."""
    mode: Literal["min", "max"] = "min"
    """With a metric: whether smaller or larger is better."""
    patience: int = Field(default=10, ge=1)
    """Evaluations without improvement before the stage ends."""
    min_delta: float = Field(default=0, ge=0)
    """Smaller changes do not count as improvement. 0 means that any does."""


class DistributedConfig(Section):
    """How ranks average their gradients, where there are several."""

    bucket_mebibytes: int = Field(default=25, ge=1)
    """Gradients are sent in buckets of about this size, while others are still computed."""
    gradient_as_bucket_view: bool = True
    """Gradients live in the buckets: saves a copy of them in time and memory."""
    static_graph: bool = False
    """Every step uses the same parameters in the same way: allows activation checkpointing and
    parameters without gradient at no cost."""
    find_unused_parameters: bool = False
    """Let steps leave trainable parameters without gradient, other ones each time; slower."""
    broadcast_buffers: bool = True
    """Rank 0's buffers for all before every step. false saves that where buffers matter in
    evaluation alone, such as those of batch normalisation; rank 0's are evaluated and saved."""
    compression: Literal["none", "fp16", "bf16", "powersgd"] = "none"
    """What gradients are sent as. fp16 and bf16 halve the bytes; powersgd sends matrices of low
    rank, whose error is made up for in the next step."""
    powersgd_rank: int = Field(default=1, ge=1)
    """For powersgd: rank of the matrices; more is more exact and slower."""
    powersgd_start_step: int = Field(default=1000, ge=2)
    """For powersgd: steps of a stage that are sent as they are before."""


class ProfileConfig(Section):
    """Which steps to record with torch.profiler; for each rank a trace and a table are kept under
    profiles/ in the run's storage."""

    start_step: int = Field(default=10, ge=1)
    """First step of the run to record, from 1."""
    steps: int = Field(default=10, ge=1, le=1000)
    """How many."""


class TrainingConfig(Section):
    """How to train, whatever is trained."""

    epochs: int = Field(default=10, ge=1)
    """Passes over the training data."""
    batch_size: int = Field(default=32, ge=1)
    """Samples of one optimizer step over all ranks; it stays when their number changes."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Most samples that one rank holds at a time; gradients accumulate over the micro-batches.
    Unset means a rank's whole share, as large as the run's first attempt had it."""
    evaluation_batch_size: int | None = Field(default=None, ge=1)
    """Samples of one rank in evaluation. Unset means as many as it trains on at a time."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Which optimizer."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How the learning rate moves."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass. fp16 scales each optimizer's loss by itself; a step whose
    gradients overflow changes no weights and counts as a step all the same, in the schedule too."""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """Of float32 products and convolutions on a GPU: high allows TF32, medium bf16 too."""
    channels_last: bool = False
    """Keep weights of 2D and 3D convolutions with channels last, which GPUs compute faster with
    half precision; outputs follow them."""
    clip_grad_norm: float | None = Field(default=None, gt=0)
    """Largest norm of an optimizer's gradients. Unset means no clipping."""
    clip_norm_type: float = Field(default=2.0, gt=0)
    """Which norm: the p of the p-norm, .inf for the largest number."""
    log_grad_norm: bool = False
    """Record the norm of the gradients also where it is not clipped."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of a moving average of the weights, which is then evaluated and kept as best.
    Unset means none."""
    early_stopping: EarlyStoppingConfig | None = None
    """When to end before the last epoch. Unset means never."""
    evaluate_every_epochs: int = Field(default=1, ge=1)
    """Epochs between two evaluations; the last epoch is always evaluated."""
    log_every_steps: int = Field(default=50, ge=1)
    """Optimizer steps between two readings of the training metrics."""
    evaluate_only: bool = False
    """Train nothing: judge the weights of spec.checkpoint.resumeFrom on the final splits, and leave
    reports, pictures and result.json as a run does."""
    histogram_every_epochs: int | None = Field(default=None, ge=1)
    """Epochs between two histograms of each weight and its gradient. Unset means none."""
    num_workers: int = Field(default=0, ge=0)
    """Processes per rank that load data. 0 means that the rank loads it itself."""
    prefetch_batches: int = Field(default=2, ge=1)
    """Batches that each of these processes has ready."""
    seed: int = Field(default=42, ge=0)
    """Of weights, order and augmentation."""
    deterministic: bool = False
    """Refuse algorithms whose result differs from run to run; slower on a GPU."""
    compile: bool = False
    """Compile the modules with torch.compile; slower to start, and needs a C++ compiler."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute. auto means an NVIDIA GPU where there is one; mps is an Apple one, for a
    single rank."""
    cudnn_benchmark: bool = True
    """On a GPU: time several algorithms for each new shape and take the fastest. Never where
    deterministic is set."""
    distributed: DistributedConfig = DistributedConfig()
    """How ranks average their gradients."""
    profile: ProfileConfig | None = None
    """Which steps to record. Unset means none; SIGUSR2 to a rank's process records the next 10."""


class WandbConfig(Section):
    """Weights & Biases; needs the package `wandb` and no network: the files of its offline mode are
    kept below wandb/ in the run's storage, for `wandb sync`."""

    enabled: bool = False
    """Whether to log there."""
    project: str = "trainyard"
    """Project of the run."""
    entity: str | None = None
    """User or team."""
    name: str | None = None
    """Of the run; unset: wandb's own."""
    tags: tuple[str, ...] = ()
    """Of the run."""
    log_model: bool = False
    """Name the best checkpoint in the run's summary."""
    log_code: bool = False
    """Keep the recipe's source with the run."""
    watch_model: Literal["gradients", "parameters", "all"] | None = None
    """Record histograms of gradients, parameters or both."""


class DataConfig(Section):
    """Where the data lies; a recipe adds its own keys."""

    path: Path | None = None
    """Folder of the data set. Unset means where spec.dataset was put."""


class RecipeConfig(Section):
    """What every recipe can be told; a recipe's config.py inherits it as `Config`."""

    aliases: ClassVar[Sequence[Alias]] = ()
    """Other spellings that are read; see aliases.py."""
    groups: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    """By a dotted key and its value: defaults, by dotted key, that come with that choice."""

    training: TrainingConfig = TrainingConfig()
    """How to train."""
    data: DataConfig = DataConfig()
    """What to train on."""

    def writes_tensorboard(self) -> bool:
        """Whether a guide's keys leave spec.tensorBoard as it is, or switch it off."""
        return True

    def checkpoint_policy(self) -> Mapping[str, Any]:
        """What a guide's keys say of checkpoints, spelt as spec.checkpoint, which it overrules."""
        return {}

    def metric_names(self) -> Sequence[str]:
        """All that `compute_metrics` may return, so that a sweep's objective is checked before it
        begins; empty: nobody knows beforehand."""
        return ()


ConfigT = TypeVar("ConfigT", bound=RecipeConfig)


def build_config(
    cls: type[ConfigT],
    layers: Sequence[Mapping[str, Any]] = (),
    overrides: Sequence[str] = (),
    sources: Sequence[str] = (),
) -> ConfigT:
    """Merge defaults, layers and overrides, the later one wins.

    overrides: "dotted.key=value", the value being YAML. sources: what messages call each layer,
    `spec.config` where there are fewer. Raises ConfigurationError with the first mistake.
    """
    read, merged = read_layers(cls, layers, overrides, sources), _defaults(cls)
    origin: dict[tuple[str, ...], str] = {}
    chosen = group_values(cls.groups, read, cls().model_dump() if cls.groups else {})
    _merge(merged, chosen, "spec.config", {})
    for layer in read:
        _merge(merged, layer.values, layer.source, origin)
    try:
        return cls.model_validate(merged)
    except ValidationError as error:
        raise ConfigurationError(sentence(cls, error, origin)) from None


def read_layers(
    cls: type[RecipeConfig],
    layers: Sequence[Mapping[str, Any]] = (),
    overrides: Sequence[str] = (),
    sources: Sequence[str] = (),
) -> list[Layer]:
    """The layers in the recipe's own spelling, with a notice for each other one in them.

    Arguments as for `build_config`. Raises ConfigurationError.
    """
    names = [*sources, *["spec.config"] * (len(layers) - len(sources))]
    named = [*zip(names, layers, strict=False)]
    named += [("spec.overrides", parse_override(text)) for text in overrides]
    return [read_layer(cls.aliases, values, name) for name, values in named]


def parse_layer(text: str | None, source: str) -> dict[str, Any]:
    """A layer from YAML text; empty text is an empty layer. Raises ConfigurationError."""
    try:
        repeated = repeated_key(yaml.compose(text or "", yaml.SafeLoader))
        values = yaml.safe_load(text or "")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigurationError(f"{source}: not YAML{where}: {problem}.") from None
    if repeated:
        path, mark = repeated
        raise ConfigurationError(
            f"{source}: {'.'.join(map(str, path))} is given twice, again in line {mark.line + 1}; "
            "leave one of them."
        )
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"{source}: expected keys and values, found a {type(values).__name__}."
        )
    return values


def parse_override(text: str) -> dict[str, Any]:
    """`a.b=1` as {"a": {"b": 1}}. Raises ConfigurationError."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigurationError(
            f"spec.overrides: '{text}' is not of the form key=value; write for instance "
            "'training.epochs=3'."
        )
    try:
        leaf = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigurationError(
            f"spec.overrides: the value of '{text}' is not YAML; quote it."
        ) from None
    nested: dict[str, Any] = {parts[-1]: leaf}
    for part in reversed(parts[:-1]):
        nested = {part: nested}
    return nested


def config_hash(config: BaseModel) -> str:
    """The same 16 digits for the same values, whatever layers they came from."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """What differs between two configurations, each as `dotted.key: old -> new`."""
    changes = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changes += config_changes(before, after, f"{path}{key}.")
        elif before != after:
            changes.append(f"{path}{key}: {json.dumps(before)} -> {json.dumps(after)}")
    return changes


def _defaults(cls: type[BaseModel]) -> dict[str, Any]:
    """What the default sections say, so that a layer that sets one key keeps the rest."""
    found = {}
    for name, field in cls.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, BaseModel) and model_in(field.annotation):
            found[name] = _set_keys(default)
    return found


def _set_keys(section: BaseModel) -> dict[str, Any]:
    """A section's keys that differ from its class's; a choice between sections starts afresh."""
    found = {}
    for name, value in section:
        if isinstance(value, BaseModel):
            if model_in(type(section).model_fields[name].annotation):
                found[name] = _set_keys(value)
        elif name in section.model_fields_set:
            found[name] = value
    return found


def _merge(
    into: dict[str, Any],
    layer: Mapping[str, Any],
    source: str,
    origin: dict[tuple[str, ...], str],
    path: tuple[str, ...] = (),
) -> None:
    for key, value in layer.items():
        here = (*path, str(key))
        origin[here] = source
        old = into.get(key)
        if isinstance(value, Mapping):
            branch = dict(old) if isinstance(old, Mapping) else {}
            _merge(branch, value, source, origin, here)
            into[key] = branch
        else:
            into[key] = value
