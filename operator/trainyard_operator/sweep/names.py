"""What a sweep's parts are called, in the cluster and in storage; only the standard library."""

from typing import Final

SWEEP_KIND: Final = "TrainingSweep"
SWEEP_PLURAL = "trainingsweeps"

SWEEP_LABEL = "trainyard.dev/sweep"
SWEEP_UID_LABEL = "trainyard.dev/sweep-uid"
TRIAL_LABEL = "trainyard.dev/trial"
"""Of a trial's TrainingJob: its number."""
REPORT_LABEL = "trainyard.dev/report"
"""Of the TrainingJob that writes the report: of how many trials that had ended, or `final`."""
SETTING_ANNOTATION = "trainyard.dev/setting"
"""Of a trial's TrainingJob: name, overrides and fold as a JSON object."""
HELD_ANNOTATION = "trainyard.dev/held-by"
"""Of a trial's TrainingJob that the sweep suspended: why, one of HELD_BY."""
HELD_REASON_ANNOTATION = "trainyard.dev/held-because"
"""The same as a sentence."""

HELD_BY_SWEEP = "Suspend"
"""spec.runPolicy.suspend of the sweep; it goes on with the sweep."""
HELD_BY_STOPPING = "EarlyStopping"
HELD_BY_END = "SweepEnded"


def trial_name(sweep: str, number: int) -> str:
    """Name of a trial's TrainingJob; it is what keeps a trial from being made twice."""
    return f"{sweep}-{number}"


def called(job: str, name: str) -> str:
    """A trial in a sentence: its job, and the variant or fold where there is one."""
    return job if name == job else f"{job}, {name}"


def trials_text(count: int, kind: str = "") -> str:
    """`1 trial`, `2 trials`; kind: a word between, with a space after it."""
    return f"{count} {kind}{'trial' if count == 1 else 'trials'}"


def stopped_early(count: int) -> str:
    """`1 was stopped early`."""
    return f"{count} {'was' if count == 1 else 'were'} stopped early"


def report_name(sweep: str) -> str:
    """Name of the TrainingJob that writes the report."""
    return f"{sweep}-report"


def sweep_prefix(namespace: str, sweep: str, uid: str) -> str:
    """Everything of a sweep lies below this prefix of its template's spec.storage.uri."""
    return f"{namespace}/{sweep}/{uid}"
