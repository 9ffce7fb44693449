"""How `trainyard run` of a sweep begins: with the last run of its name, or anew, or not at all."""

from dataclasses import dataclass

from trainyard.errors import Rejected
from trainyard.local.runner import already_runs
from trainyard.locate import as_place
from trainyard.rival import require_own_storage
from trainyard.state import local_sweeps, newest_local_sweep
from trainyard.sweepchange import mixing_here
from trainyard.sweeps import Sweep
from trainyard_operator.sweep.api import SweepSpec, TrainingSweep
from trainyard_operator.sweep.desired import spec_hash


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a run does first."""

    last: Sweep | None = None
    """What goes on; None where a new one begins."""
    empty: Sweep | None = None
    """A last run without trials, whose place the new one takes."""
    told: str = ""
    """A line that says which it is; empty where there is nothing to say."""


def beginning(sweep: TrainingSweep, target: str, *, fresh: bool) -> Beginning:
    """Nothing is changed yet, so --dry-run says the same.

    target: what to type after `trainyard run`. Raises ClientError where the sweep cannot begin.
    """
    for local in local_sweeps(sweep.metadata.name):
        if local.runner_pid:
            raise already_runs(local)
    begins = Beginning() if fresh else _after_last(sweep, target)
    if begins.last is None and (storage := sweep.spec.template.spec.storage):
        require_own_storage("spec.template.spec.storage.uri", storage.uri, "each sweep")
    return begins


def _after_last(sweep: TrainingSweep, target: str) -> Beginning:
    name = sweep.metadata.name
    local = newest_local_sweep(name)
    if local is None:
        return Beginning()
    last = Sweep(local.object, local=local)
    if last.is_finished:
        told = f"the last run of sweep {name}{_elsewhere(last, sweep)} has ended; a new one begins"
        return Beginning(told=told)
    if last.status.spec_hash in {None, spec_hash(sweep.spec)}:
        told = f"going on with sweep {name}; --fresh begins anew"
        return Beginning(last=last, told=told)
    if last.status.counts and last.status.counts.created:
        raise _mixing(last, sweep, target)
    told = f"no trial of sweep {name} had begun; it begins anew with the changed spec"
    return Beginning(empty=last, told=told)


def _mixing(last: Sweep, sweep: TrainingSweep, target: str) -> Rejected:
    begun_by = SweepSpec.model_validate(last.spec)
    help_ = f"trainyard run {target} --fresh"
    return mixing_here(begun_by, sweep.spec, f"'{last.name}'{_results_of(last)}", help_)


def _elsewhere(last: Sweep, sweep: TrainingSweep) -> str:
    """Where the last run's results lie, if a new one's will lie in another place."""
    storage = sweep.spec.template.spec.storage
    is_same = storage is not None and storage.uri == last.storage.get("uri")
    where = "" if is_same else _results_of(last)
    return f"{where}," if where else ""


def _results_of(last: Sweep) -> str:
    uri = last.storage.get("uri")
    return f", whose results lie in {as_place(uri)}" if uri else ""
