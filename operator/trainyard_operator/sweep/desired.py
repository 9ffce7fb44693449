"""Pure builders of the TrainingJobs that a sweep owns, and where its results lie."""

import hashlib
import json
from typing import Any

from trainyard_operator.api import Storage
from trainyard_operator.contract import API_VERSION, JOB_KIND, Label
from trainyard_operator.defaults import Defaults
from trainyard_operator.identity import owner_of
from trainyard_operator.sweep.api import SweepSpec, TrainingSweep
from trainyard_operator.sweep.names import (
    SETTING_ANNOTATION,
    SWEEP_LABEL,
    SWEEP_UID_LABEL,
    TRIAL_LABEL,
    sweep_prefix,
    trial_name,
)
from trainyard_operator.sweep.table import REPORT_PREFIX, TRIALS_PREFIX
from trainyard_operator.sweep.trial import Proposal

CHANGEABLE = {
    "parallelism", "max_trials", "failure_policy", "run_policy",
}  # fmt: skip
"""Fields of a sweep that may change while it runs: no result depends on them."""
CHANGEABLE_IN_TRIALS = {
    "resources", "run_policy", "scheduling", "logs", "tensor_board", "template",
}  # fmt: skip
"""Fields of the template that may: later trials get them."""
FOLD_KEY, FOLDS_KEY = "data.fold", "data.folds"
"""In the configuration of our recipes: which fold, and of how many."""


def spec_hash(spec: SweepSpec) -> str:
    """Changes when later trials could not be compared with earlier ones."""
    fields = json.dumps(compared_fields(spec), sort_keys=True)
    return hashlib.sha256(fields.encode()).hexdigest()[:16]


def compared_fields(spec: SweepSpec, *, by_alias: bool = False) -> dict[str, Any]:
    """What results depend on, without defaults; by_alias: with the keys that people write."""
    return spec.model_dump(
        mode="json",
        by_alias=by_alias,
        exclude={**dict.fromkeys(CHANGEABLE, True), "template": {"spec": CHANGEABLE_IN_TRIALS}},
        exclude_defaults=True,
    )


def storage_of(sweep: TrainingSweep, defaults: Defaults) -> Storage | None:
    """The template's storage, or the operator's default."""
    return sweep.spec.template.spec.storage or defaults.storage


def sweep_uri(sweep: TrainingSweep, defaults: Defaults) -> str | None:
    """Everything of this sweep lies below it; None without storage."""
    storage, meta = storage_of(sweep, defaults), sweep.metadata
    prefix = sweep_prefix(meta.namespace, meta.name, meta.uid)
    return f"{storage.uri.rstrip('/')}/{prefix}" if storage else None


def report_uri(sweep: TrainingSweep, defaults: Defaults) -> str | None:
    """Where the report lies; None without storage."""
    uri = sweep_uri(sweep, defaults)
    return f"{uri}/{REPORT_PREFIX}" if uri else None


def build_trial(sweep: TrainingSweep, proposal: Proposal, defaults: Defaults) -> dict[str, Any]:
    """The TrainingJob of one trial."""
    template, name = sweep.spec.template, trial_name(sweep.metadata.name, proposal.number)
    given = template.metadata.to_dict() if template.metadata else {}
    setting = {
        "name": proposal.name or name,
        "overrides": proposal.overrides,
        **({} if proposal.fold is None else {"fold": proposal.fold}),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": JOB_KIND,
        "metadata": {
            "name": name,
            "namespace": sweep.metadata.namespace,
            "labels": given.get("labels", {})
            | labels_of(sweep)
            | {TRIAL_LABEL: str(proposal.number)},
            "annotations": given.get("annotations", {})
            | {SETTING_ANNOTATION: json.dumps(setting, sort_keys=True)},
            "ownerReferences": [owner_of(sweep)],
        },
        "spec": _trial_spec(sweep, proposal, defaults),
    }


def _trial_spec(sweep: TrainingSweep, proposal: Proposal, defaults: Defaults) -> dict[str, Any]:
    """The template with the trial's settings, below the sweep's own prefix of the storage."""
    spec = sweep.spec.template.spec
    settings = dict(proposal.overrides)
    if proposal.fold is not None:
        settings[sweep.spec.fold_parameter] = proposal.fold
        if spec.recipe and sweep.spec.fold_parameter == FOLD_KEY:
            settings[FOLDS_KEY] = sweep.spec.folds
    assigned = [f"{key}={setting_text(value)}" for key, value in settings.items()]
    changes: dict[str, Any] = {
        # A trial that expired would be run again: the sweep's own time to live is for all.
        "run_policy": spec.run_policy.model_copy(
            update={"suspend": False, "ttl_seconds_after_finished": None}
        )
    }
    if spec.recipe:
        changes["overrides"] = [*(spec.overrides or ()), *assigned] or None
        changes["checkpoint"] = spec.checkpoint.model_copy(
            update=_keep_best(sweep.spec) | _first_pause(sweep.spec)
        )
    else:
        changes["args"] = [*(spec.args or ()), *(f"--{item}" for item in assigned)] or None
    storage, uri = storage_of(sweep, defaults), sweep_uri(sweep, defaults)
    if storage and uri:
        changes["storage"] = storage.model_copy(update={"uri": f"{uri}/{TRIALS_PREFIX}"})
    return spec.model_copy(update=changes).to_dict()


def _keep_best(spec: SweepSpec) -> dict[str, Any]:
    """The objective chooses the best checkpoint, unless the template says what does."""
    if spec.template.spec.checkpoint.keep_best or not spec.objective.is_evaluated:
        return {}
    return {"keep_best": spec.objective.as_best()}


def _first_pause(spec: SweepSpec) -> dict[str, Any]:
    """With asha a trial rests at its rungs, so that it is judged at each and trains no further.

    What else the template says of it goes: nobody would let such a trial go on.
    """
    rule = spec.early_stopping
    return {"pause_at_step": rule.min_steps if rule and rule.method == "asha" else None}


def setting_text(value: Any) -> str:
    """A value as an override has it: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def labels_of(sweep: TrainingSweep) -> dict[str, str]:
    """On every object of a sweep."""
    return {
        Label.APP_NAME: "trainyard",
        Label.APP_MANAGED_BY: "trainyard-operator",
        SWEEP_LABEL: sweep.metadata.name,
        SWEEP_UID_LABEL: sweep.metadata.uid,
    }
