"""A sweep's trials held against their recipe before anything runs, each mistake told at its place
in the sweep's own file."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainyard.errors import Rejected
from trainyard.findings import nearest
from trainyard.jobfile import recipe_config
from trainyard.yamltext import KeyPath, Located
from trainyard_operator.api import TrainingJob
from trainyard_operator.defaults import Defaults
from trainyard_operator.sweep.api import SweepSpec, TrainingSweep
from trainyard_operator.sweep.desired import build_trial, setting_text
from trainyard_operator.sweep.search import first_trials
from trainyard_operator.sweep.trial import Proposal

if TYPE_CHECKING:
    from trainyard_trainer.config import RecipeConfig

CHECKED_TRIALS = 64
"""So many of the first trials are built and checked."""


def check_trials(sweep: TrainingSweep, document: Located) -> None:
    """A parameter that the recipe does not have is told now, and not by each trial."""
    for proposal in first_trials(sweep.spec, CHECKED_TRIALS):
        job = TrainingJob.model_validate(build_trial(sweep, proposal, Defaults()))
        config = _config_of(job, proposal, sweep.spec, document)
        _check_objective(sweep.spec, config.metric_names() if config else (), document)


def _config_of(
    job: TrainingJob, proposal: Proposal, spec: SweepSpec, document: Located
) -> "RecipeConfig | None":
    from trainyard_trainer.errors import ConfigurationError

    try:
        return recipe_config(job)
    except ConfigurationError as error:
        sentence = str(error).rstrip(".")
        raise Rejected(_at_its_place(sentence, job, proposal, spec, document)) from None


def _at_its_place(
    sentence: str, job: TrainingJob, proposal: Proposal, spec: SweepSpec, document: Located
) -> str:
    """`spec.overrides.training: unknown key 'x'; ..` of the trial, as the sweep's file has it."""
    wrong, what = _key_in(sentence)
    if spec.folds and wrong == spec.fold_parameter:
        return (
            f"{document.where(('spec', 'folds'))}: spec.folds: recipe {job.spec.recipe} has no "
            f"'{wrong}'; with foldParameter: training.seed folds are repeats with other seeds"
        )
    for key in proposal.overrides if wrong else ():
        if f"{key}.".startswith(f"{wrong}.") or wrong.startswith(f"{key}."):
            path = _path_of(key, proposal, spec)
            return f"{document.where(path)}: {'.'.join(map(str, path))}: {what}"
    settings = ", ".join(f"{key}={setting_text(v)}" for key, v in proposal.overrides.items())
    named = f"'{job.metadata.name}'" + (f" ({settings})" if settings else "")
    return f"{document.source}: trial {named}: {sentence}"


def _key_in(sentence: str) -> tuple[str, str]:
    """The dotted key of an override that is wrong, empty if none is, and what is wrong with it."""
    head, _, what = sentence.partition(": ")
    if not head.startswith("spec.overrides"):
        return "", what
    section = head.removeprefix("spec.overrides").removeprefix(".")
    unknown = re.match(r"unknown key '([^']+)'", what)
    return (f"{section}.{unknown[1]}".removeprefix(".") if unknown else section), what


def _path_of(key: str, proposal: Proposal, spec: SweepSpec) -> KeyPath:
    if spec.method != "list":
        return ("spec", "parameters", key)
    return ("spec", "trials", proposal.number // (spec.folds or 1), "overrides", key)


def _check_objective(spec: SweepSpec, known: Sequence[str], document: Located) -> None:
    """known: what the recipe evaluates; empty where nobody knows beforehand. Raises Rejected."""
    metric = spec.objective.metric
    split = next((word for word in ("val_", "test_", "train_") if metric.startswith(word)), "")
    # Losses have names of their own; and what a template of its own keepBest compares by, too.
    is_free = split == "train_" or (not split and spec.template.spec.checkpoint.keep_best)
    if not known or is_free or metric.removeprefix(split) in known:
        return
    names = list(dict.fromkeys(f"{split or 'val_'}{name}" for name in known))
    where = document.where(("spec", "objective", "metric"))
    raise Rejected(
        f"{where}: spec.objective.metric: recipe {spec.template.spec.recipe} reports no "
        f"'{metric}'; {nearest(metric, names)}"
    )
