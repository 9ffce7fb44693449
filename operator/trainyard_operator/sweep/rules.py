"""What a TrainingSweep's fields have to be among each other: once for the API server, in CEL, and
once for whoever parses it elsewhere; one sentence for both."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

_Value = TypeVar("_Value")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_][A-Za-z0-9_-]*)*")
_SHORT = 60
"""Letters of values that a sentence repeats."""
_LEAST_STEPS = 1 - 1e-9
"""Steps of a range: 0.3 less 0.1, over 0.2, comes out below 1."""


@dataclass(frozen=True)
class Rule:
    """One condition."""

    cel: str | None
    """None where CEL cannot say it: it sees no values of any kind. The operator does."""
    message: str
    """What to write instead."""
    holds: Callable[[Any], bool]
    """The same as `cel`, of the typed model."""


def as_key(text: str) -> str:
    """The text. Raises ValueError if neither a configuration nor a program has such a key."""
    if _KEY.fullmatch(text):
        return text
    raise ValueError(
        f"'{text}' is no key; write letters, digits, '_' and '-', with dots between, such as "
        "training.learning_rate"
    )


def as_parameter(given: Any) -> Any:
    """The same. Raises ValueError for values that stand alone, where keys are wanted."""
    if isinstance(given, Mapping | BaseModel):
        return given
    if given is None:
        raise ValueError("write values, or a distribution with min and max")
    text = json.dumps(given if isinstance(given, list) else [given], default=str)
    raise ValueError(
        f"write {{values: {text if len(text) <= _SHORT else '[..]'}}}, or a distribution with min "
        "and max"
    )


def is_finite(value: Any) -> bool:
    """Whether it holds neither infinity nor what is no number: JSON has neither."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(is_finite, value))


def as_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """The same. Raises ValueError for a key or a number that cannot be handed to a trial."""
    for key, value in overrides.items():
        if not is_finite(value):
            raise ValueError(f"'{as_key(key)}' must be finite, not .inf or .nan")
    return keyed(overrides)


def keyed(by_key: dict[str, _Value]) -> dict[str, _Value]:
    """The same. Raises ValueError as `as_key`."""
    for key in by_key:
        as_key(key)
    return by_key


def _are_different(values: Sequence[Any]) -> bool:
    """As JSON: there true is not 1."""
    return len({json.dumps(value, sort_keys=True, default=str) for value in values}) == len(values)


def _is_whole(*numbers: float | None) -> bool:
    return all(number is None or float(number).is_integer() for number in numbers)


PARAMETER_RULES = (
    Rule(
        None,
        "values, min, max and step must be finite, not .inf or .nan.",
        lambda p: is_finite([p.values or [], p.min, p.max, p.step]),
    ),
    Rule(
        None,
        "each of values must be given once.",
        lambda p: p.values is None or _are_different(p.values),
    ),
    Rule(
        None,
        "give each parameter either values, or a distribution with min and max.",
        lambda p: (p.values is None) != (p.distribution is None),
    ),
    Rule(
        "has(self.distribution) == has(self.min) && has(self.distribution) == has(self.max)",
        "a distribution needs min and max, and they need a distribution: uniform, log_uniform or "
        "int_uniform.",
        lambda p: (
            (p.distribution is None) == (p.min is None) == (p.max is None)
            and (p.min is None) == (p.max is None)
        ),
    ),
    Rule(
        "!(has(self.min) && has(self.max)) || self.min < self.max",
        "the range is empty: min must be smaller than max; give a single value as values: [x].",
        lambda p: p.min is None or p.max is None or p.min < p.max,
    ),
    Rule(
        "!(has(self.distribution) && self.distribution == 'log_uniform' && has(self.min)) || "
        "self.min > 0.0",
        "log_uniform has no logarithm of 0 or less: min must be above 0, such as 1e-5, or take "
        "uniform.",
        lambda p: p.distribution != "log_uniform" or p.min is None or p.min > 0,
    ),
    Rule(
        "!(has(self.distribution) && self.distribution == 'int_uniform' && has(self.min) && "
        "has(self.max)) || (double(int(self.min)) == self.min && "
        "double(int(self.max)) == self.max && "
        "(!has(self.step) || double(int(self.step)) == self.step))",
        "int_uniform takes whole numbers for min, max and step; take uniform for others.",
        lambda p: p.distribution != "int_uniform" or _is_whole(p.min, p.max, p.step),
    ),
    Rule(
        "!has(self.step) || self.step > 0.0",
        "step must be above 0, such as 0.1.",
        lambda p: p.step is None or p.step > 0,
    ),
    Rule(
        "!has(self.step) || (has(self.distribution) && self.distribution != 'log_uniform')",
        "step belongs to distribution uniform and int_uniform; leave it out, or take one of them.",
        lambda p: p.step is None or p.distribution in {"uniform", "int_uniform"},
    ),
    Rule(
        "!(has(self.step) && self.step > 0.0 && has(self.min) && has(self.max)) || "
        f"(self.max - self.min) / self.step >= {_LEAST_STEPS}",
        "step leaves only min: it must be at most max - min; give a single value as values: [x].",
        lambda p: (
            p.step is None
            or p.min is None
            or p.max is None
            or (p.max - p.min) / p.step >= _LEAST_STEPS
        ),
    ),
)

STOPPING_DEFAULT = 3
"""Of minTrials and reductionFactor: the API server fills both in, whatever the method."""

STOPPING_RULES = (
    Rule(
        f"self.method == 'median' || self.minTrials == {STOPPING_DEFAULT}",
        "minTrials belongs to method median; asha takes minSteps and reductionFactor.",
        lambda e: e.method == "median" or e.min_trials == STOPPING_DEFAULT,
    ),
    Rule(
        f"self.method == 'asha' || self.reductionFactor == {STOPPING_DEFAULT}",
        "reductionFactor belongs to method asha; median takes minSteps and minTrials.",
        lambda e: e.method == "asha" or e.reduction_factor == STOPPING_DEFAULT,
    ),
)

OBJECTIVE_RULES = (
    Rule(
        "self == oldSelf",
        "objective cannot be changed: trials would be compared by two measures; create another "
        "sweep.",
        lambda _: True,
    ),
)

UNJUDGED_SPLITS = ("test_", "train_")
"""Their metrics are known of a whole epoch, or at the end: too late to choose a checkpoint."""
_SEARCHES = {"grid", "random", "bayes"}

SPEC_RULES = (
    Rule(
        "(self.method in ['grid', 'random', 'bayes']) == has(self.parameters)",
        "method grid, random and bayes need parameters, and folds and list take none.",
        lambda s: (s.method in _SEARCHES) == (s.parameters is not None),
    ),
    Rule(
        "(self.method == 'list') == has(self.trials)",
        "method list needs trials, and no other method takes them.",
        lambda s: (s.method == "list") == (s.trials is not None),
    ),
    Rule(
        "self.method == 'folds' ? has(self.folds) : "
        "(!has(self.folds) || self.method in ['grid', 'list'])",
        "method folds needs folds; only grid and list may have them as well.",
        lambda s: (
            s.folds is not None
            if s.method == "folds"
            else s.folds is None or s.method in {"grid", "list"}
        ),
    ),
    Rule(
        "!has(self.folds) || !has(self.parameters) || !(self.foldParameter in self.parameters)",
        "foldParameter is one of parameters, and the fold would take its place; leave one of them "
        "out.",
        lambda s: s.folds is None or s.fold_parameter not in (s.parameters or {}),
    ),
    Rule(
        "!(self.method in ['random', 'bayes']) || has(self.maxTrials)",
        "method random and bayes need maxTrials: they would never end.",
        lambda s: s.method not in {"random", "bayes"} or s.max_trials is not None,
    ),
    Rule(
        "self.method != 'grid' || !has(self.parameters) || self.parameters.all(name, "
        "!has(self.parameters[name].distribution) || has(self.parameters[name].step))",
        "method grid needs values, or a step, for each of its parameters; take random for a range.",
        lambda s: (
            s.method != "grid"
            or all(p.distribution is None or p.step is not None for p in s.parameters.values())
        ),
    ),
    Rule(
        "!(has(self.earlyStopping) && has(self.folds))",
        "earlyStopping would leave folds without a result; set either earlyStopping or folds.",
        lambda s: s.early_stopping is None or s.folds is None,
    ),
    Rule(
        "!has(self.earlyStopping) || has(self.template.spec.recipe)",
        "earlyStopping needs a recipe: a program given as command reports no curve.",
        lambda s: s.early_stopping is None or s.template.spec.recipe is not None,
    ),
    Rule(
        "!has(self.earlyStopping) || !has(self.template.spec.checkpoint) || "
        "!has(self.template.spec.checkpoint.keepBest) || "
        "(self.template.spec.checkpoint.keepBest.metric == self.objective.metric && "
        "self.template.spec.checkpoint.keepBest.mode == "
        "(self.objective.goal == 'minimize' ? 'min' : 'max'))",
        "earlyStopping judges by the metric that chooses the best checkpoint; leave "
        "template.spec.checkpoint.keepBest out, and it is the objective.",
        lambda s: (
            s.early_stopping is None
            or s.template.spec.checkpoint.keep_best in {None, s.objective.as_best()}
        ),
    ),
    Rule(
        "!has(self.earlyStopping) || !("
        + " || ".join(f"self.objective.metric.startsWith('{split}')" for split in UNJUDGED_SPLITS)
        + ")",
        "earlyStopping needs an objective that is evaluated while a trial trains, such as "
        "val_accuracy.",
        lambda s: s.early_stopping is None or s.objective.is_evaluated,
    ),
    Rule(
        "!self.failurePolicy.replace || self.method in ['random', 'bayes']",
        "failurePolicy.replace belongs to random and bayes; raise "
        "template.spec.runPolicy.maxRestarts to have other trials tried again.",
        lambda s: not s.failure_policy.replace or s.method in {"random", "bayes"},
    ),
)
