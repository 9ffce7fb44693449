"""A sweep's trials held against their recipe before anything runs, each mistake told at its place
in the sweep's own file."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from trainyard.errors import Rejected
from trainyard.findings import nearest
from trainyard.jobfile import recipe_config
from trainyard.sweepkeys import require_apart
from trainyard.yamltext import KeyPath, Located
from trainyard_operator.api import TrainingJob
from trainyard_operator.defaults import Defaults
from trainyard_operator.sweep.api import SweepSpec, TrainingSweep
from trainyard_operator.sweep.desired import build_trial, setting_text
from trainyard_operator.sweep.names import trial_name
from trainyard_operator.sweep.search import first_trials
from trainyard_operator.sweep.space import extremes
from trainyard_operator.sweep.trial import Proposal
from trainyard_trainer.errors import ConfigurationError

CHECKED_TRIALS = 64
"""So many of the first trials are built and checked."""


def check_trials(sweep: TrainingSweep, document: Located) -> None:
    """What the recipe does not take is told now, and not by each trial. Raises Rejected."""
    require_apart(sweep.spec, document)
    _check_ends(sweep, document)
    for called, proposal in _samples(sweep):
        job = TrainingJob.model_validate(build_trial(sweep, proposal, Defaults()))
        try:
            config = recipe_config(job)
        except ConfigurationError as error:
            sentence = str(error).rstrip(".")
            told = _at_its_place(sentence, called, proposal, sweep.spec, document)
            raise Rejected(told) from None
        _check_objective(sweep.spec, config.metric_names() if config else (), document)


def _check_ends(sweep: TrainingSweep, document: Located) -> None:
    """Each end of a range by itself, before values that nobody wrote are drawn from it.

    What another key of the setting has wrong is not told here. Raises Rejected.
    """
    parameters = sweep.spec.parameters or {}
    ranges = {key: extremes(one) for key, one in parameters.items() if one.values is None}
    first = first_trials(sweep.spec, 1)[0]
    lowest = {**first.overrides, **{key: ends[0] for key, ends in ranges.items()}}
    for key, ends in ranges.items():
        for end in ends:
            proposal = replace(first, overrides={**lowest, key: end})
            try:
                recipe_config(TrainingJob.model_validate(build_trial(sweep, proposal, Defaults())))
            except ConfigurationError as error:
                sentence = str(error).rstrip(".")
                if _key_in(sentence)[0] == key:
                    told = _at_its_place(sentence, "a trial", proposal, sweep.spec, document)
                    raise Rejected(told) from None


def _samples(sweep: TrainingSweep) -> Iterator[tuple[str, Proposal]]:
    """What each is called, and its settings: the first trials, then one for each value, and for
    both ends of each range, beside what else the first of them has."""
    known = first_trials(sweep.spec, CHECKED_TRIALS)
    for proposal in known:
        yield f"trial '{trial_name(sweep.metadata.name, proposal.number)}'", proposal
    for key, parameter in (sweep.spec.parameters or {}).items():
        for value in extremes(parameter):
            yield "a trial", replace(known[0], overrides={**known[0].overrides, key: value})


def _at_its_place(
    sentence: str, called: str, proposal: Proposal, spec: SweepSpec, document: Located
) -> str:
    """`spec.overrides.training: unknown key 'x'; ..` of the trial, as the sweep's file has it."""
    wrong, what = _key_in(sentence)
    if spec.folds and wrong == spec.fold_parameter:
        path: KeyPath = ("spec", "folds")
        return (
            f"{document.where(path)}: {document.named(path)}: recipe {spec.template.spec.recipe} "
            f"has no '{wrong}'; with foldParameter: training.seed folds are repeats with other "
            "seeds"
        )
    for key in proposal.overrides if wrong else ():
        if f"{key}.".startswith(f"{wrong}.") or wrong.startswith(f"{key}."):
            path = _path_of(key, proposal, spec)
            told = _of_whole_numbers(key, what, spec)
            return f"{document.where(path)}: {document.named(path)}: {told}"
    settings = ", ".join(f"{key}={setting_text(v)}" for key, v in proposal.overrides.items())
    named = called + (f" ({settings})" if settings else "")
    return f"{document.source}: {named}: {sentence}"


def _of_whole_numbers(key: str, what: str, spec: SweepSpec) -> str:
    """What is wrong with a key's value; of a range, without the number that was drawn."""
    parameter = (spec.parameters or {}).get(key)
    is_range = parameter is not None and parameter.values is None
    if is_range and what.startswith("must be a whole number"):
        return "must be a whole number; write distribution: int_uniform, or values"
    return what


def _key_in(sentence: str) -> tuple[str, str]:
    """The dotted key of an override that is wrong, empty if none is, and what is wrong with it."""
    head, _, what = sentence.partition(": ")
    if not head.startswith("spec.overrides"):
        return "", what
    section = head.removeprefix("spec.overrides").removeprefix(".")
    unknown = re.match(r"unknown key '([^']+)'", what)
    return (f"{section}.{unknown[1]}".removeprefix(".") if unknown else section), what


def _path_of(key: str, proposal: Proposal, spec: SweepSpec) -> KeyPath:
    if spec.parameters is None:
        return ("spec", "trials", proposal.number // (spec.folds or 1), "overrides", key)
    path, parameter = ("spec", "parameters", key), spec.parameters[key]
    if parameter.values is not None:
        return path
    ends = zip(extremes(parameter), ("min", "max"), strict=True)
    return (*path, *(name for end, name in ends if end == proposal.overrides[key]))


def _check_objective(spec: SweepSpec, known: Sequence[str], document: Located) -> None:
    """known: what the recipe evaluates; empty where nobody knows beforehand. Raises Rejected."""
    metric = spec.objective.metric
    split = next((word for word in ("val_", "test_", "train_") if metric.startswith(word)), "")
    # Losses have names of their own; and what a template of its own keepBest compares by, too.
    is_free = split == "train_" or (not split and spec.template.spec.checkpoint.keep_best)
    if not known or is_free or metric.removeprefix(split) in known:
        return
    names = list(dict.fromkeys(f"{split or 'val_'}{name}" for name in known))
    path = ("spec", "objective", "metric")
    raise Rejected(
        f"{document.where(path)}: {document.named(path)}: recipe {spec.template.spec.recipe} "
        f"reports no '{metric}'; {nearest(metric, names)}"
    )
