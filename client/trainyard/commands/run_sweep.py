"""`trainyard run` of a sweep."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from trainyard.errors import Exit, Interrupted, JobFailed, Rejected
from trainyard.options import Settings
from trainyard.output import note, render_document, render_table, say

if TYPE_CHECKING:
    from trainyard.jobfile import Request
    from trainyard.state import LocalJob
    from trainyard.sweepfile import SweepFile
    from trainyard_operator.sweep.api import TrainingSweep
    from trainyard_operator.sweep.status import SweepStatus
    from trainyard_operator.sweep.table import SweepTable

TRIALS_SHOWN = 64
"""Lines of --dry-run."""


def run_sweep(
    settings: Settings,
    request: "Request",
    guide: Path | None,
    *,
    target: str,
    fresh: bool,
    dry_run: bool,
) -> int:
    """Run a sweep here, or go on with it. Raises ClientError.

    target: what to type after `trainyard run` to go on.
    """
    from trainyard.local.runner import StopRequest, stopping_on_signals
    from trainyard.local.sweep import LocalSweep
    from trainyard.state import remember_last
    from trainyard.sweepfile import load_sweep, require_local
    from trainyard_operator.sweep.api import TrainingSweep

    found = load_sweep(request, guide)
    require_local(found.sweep)
    for notice in found.notices:
        note(settings, notice)
    if dry_run:
        _show_plan(settings, found.sweep)
        return Exit.DONE
    local = _local_sweep(settings, found, target, fresh)
    remember_last("local", f"sweep/{found.sweep.metadata.name}", found.sweep.metadata.namespace)
    stored = {key: local.object[key] for key in ("apiVersion", "kind", "metadata", "spec")}
    sweep = TrainingSweep.model_validate(stored)
    with stopping_on_signals(StopRequest()) as stop:
        runner = LocalSweep(local, sweep, stop, lambda text: note(settings, text))
        status, table = runner.run()
    return _conclude(settings, sweep, status, table)


def _local_sweep(settings: Settings, found: "SweepFile", target: str, fresh: bool) -> "LocalJob":
    """The unfinished sweep of that name to go on with, or a new one."""
    from trainyard.state import newest_local_sweep
    from trainyard_operator.contract import Annotation

    before = None if fresh else newest_local_sweep(found.sweep.metadata.name)
    if before and _goes_on(settings, before, found.sweep, target):
        stored = before.object
        metadata = {**stored["metadata"], "annotations": {Annotation.RUN_TARGET: target}}
        before.save({**stored, "metadata": metadata, "spec": found.manifest["spec"]})
        return before
    return _new_sweep(found, target)


def _new_sweep(found: "SweepFile", target: str) -> "LocalJob":
    from trainyard.quantities import utc_now
    from trainyard.state import new_local_sweep
    from trainyard_operator.contract import Annotation, now_text

    uid = str(uuid4())
    own = {
        "namespace": found.sweep.metadata.namespace,
        "uid": uid,
        "generation": 1,
        "creationTimestamp": now_text(utc_now()),
        "annotations": {Annotation.RUN_TARGET: target},
    }
    local = new_local_sweep(found.sweep.metadata.name, uid)
    metadata = {**found.manifest["metadata"], **own}
    local.save({**found.manifest, "metadata": metadata, "status": {}, "held": {}})
    return local


def _goes_on(settings: Settings, before: "LocalJob", sweep: "TrainingSweep", target: str) -> bool:
    """Whether the last run is to go on; why or why not is told.

    Raises Rejected before a changed spec takes the place of the one that trials ran by.
    """
    from trainyard.local.runner import already_runs
    from trainyard.sweepchange import mixing
    from trainyard.sweeps import Sweep
    from trainyard_operator.sweep.api import SweepSpec
    from trainyard_operator.sweep.desired import spec_hash

    old, name = Sweep(before.object, local=before), sweep.metadata.name
    if old.is_finished:
        note(settings, f"the last run of sweep {name} has ended; a new one begins")
        return False
    if before.runner_pid:
        raise already_runs(before)
    if old.status.spec_hash in {None, spec_hash(sweep.spec)}:
        note(settings, f"going on with sweep {name}; --fresh begins anew")
        return True
    if old.status.counts and old.status.counts.created:
        begun_by = SweepSpec.model_validate(old.spec)
        raise mixing(begun_by, sweep.spec, f"trainyard run {target} --fresh")
    note(settings, f"no trial of sweep {name} had begun; it begins anew with the changed spec")
    old.delete()
    return False


def _conclude(
    settings: Settings, sweep: "TrainingSweep", status: "SweepStatus", table: "SweepTable"
) -> int:
    """The last lines, and the exit code."""
    from trainyard_operator.contract import Annotation
    from trainyard_operator.defaults import Defaults
    from trainyard_operator.sweep.desired import report_uri
    from trainyard_operator.sweep.report import lead, told_rows

    name = sweep.metadata.name
    if status.phase == "Pending":
        refused = status.condition("Accepted")
        message = refused.message if refused else "it was not accepted"
        target = sweep.metadata.annotations[Annotation.RUN_TARGET]
        raise Rejected(message, f"trainyard run {target} --fresh")
    if settings.is_structured:
        say(render_document(settings, status.to_dict()))
    elif settings.output == "name":
        say(f"sweep/{name}")
    elif table.trials:
        header, *rows = told_rows(table, is_brief=True)
        say(render_table([cell.upper() for cell in header], rows))
        say(lead(table))
    if (uri := report_uri(sweep, Defaults())) and table.trials:
        note(settings, f"report: {uri}/report.html")
    sys.stdout.flush()
    if status.phase == "Failed":
        failed = status.condition("Failed")
        why = failed.message if failed else "no reason was recorded"
        raise JobFailed(f"sweep {name} failed: {why}")
    if status.phase != "Succeeded":
        raise Interrupted(
            f"sweep {name} stopped; its trials keep their checkpoints, and the same command goes on"
        )
    return Exit.DONE


def _show_plan(settings: Settings, sweep: "TrainingSweep") -> None:
    """The trials, as far as they are known; a person sees the first TRIALS_SHOWN."""
    from trainyard_operator.defaults import Defaults
    from trainyard_operator.sweep.desired import build_trial
    from trainyard_operator.sweep.names import trials_text
    from trainyard_operator.sweep.search import first_trials, trials_in_all

    total = trials_in_all(sweep.spec)
    known = first_trials(sweep.spec, total if settings.is_structured else TRIALS_SHOWN)
    manifests = [build_trial(sweep, proposal, Defaults()) for proposal in known]
    if settings.is_structured:
        say(render_document(settings, manifests))
        return
    for manifest in manifests:
        spec = manifest["spec"]
        words = [f"create trainingjob/{manifest['metadata']['name']}"]
        say(" ".join([*words, *(spec.get("overrides") or spec.get("args") or ())]))
    more = f"; {total - len(known)} more" if len(known) < total else ""
    if more and sweep.spec.method == "bayes":
        more += " follow from their results"
    note(settings, f"nothing was started; there would be {trials_text(total)}{more}")
