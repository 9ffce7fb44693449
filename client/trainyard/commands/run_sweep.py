"""`trainyard run` of a sweep."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from trainyard.errors import Exit, Interrupted, JobFailed, Rejected
from trainyard.options import Settings
from trainyard.output import note, render_document, render_table, say

if TYPE_CHECKING:
    from trainyard.beginning import Beginning
    from trainyard.jobfile import Request
    from trainyard.state import LocalJob
    from trainyard.sweepfile import SweepFile
    from trainyard.sweeps import Sweep
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
    from trainyard.beginning import beginning
    from trainyard.local.runner import StopRequest, stopping_on_signals
    from trainyard.local.sweep import LocalSweep
    from trainyard.state import remember_last
    from trainyard.sweepfile import load_sweep, require_local
    from trainyard_operator.sweep.api import TrainingSweep

    found = load_sweep(request, guide)
    require_local(found.sweep)
    for notice in found.notices:
        note(settings, notice)
    begins = beginning(found.sweep, target, fresh=fresh)
    if begins.told:
        note(settings, begins.told)
    if dry_run:
        _show_plan(settings, found.sweep, begins.last)
        return Exit.DONE
    local = _local_sweep(found, begins, target)
    remember_last("local", f"sweep/{found.sweep.metadata.name}", found.sweep.metadata.namespace)
    stored = {key: local.object[key] for key in ("apiVersion", "kind", "metadata", "spec")}
    sweep = TrainingSweep.model_validate(stored)
    with stopping_on_signals(StopRequest()) as stop:
        runner = LocalSweep(local, sweep, stop, lambda text: note(settings, text))
        status, table = runner.run()
    return _conclude(settings, sweep, status, table)


def _local_sweep(found: "SweepFile", begins: "Beginning", target: str) -> "LocalJob":
    """The unfinished sweep of that name to go on with, or a new one."""
    from trainyard_operator.contract import Annotation

    if begins.empty:
        begins.empty.delete()
    before = begins.last.local if begins.last else None
    if before is None:
        return _new_sweep(found, target)
    stored = before.object
    metadata = {**stored["metadata"], "annotations": {Annotation.RUN_TARGET: target}}
    before.save({**stored, "metadata": metadata, "spec": found.manifest["spec"]})
    return before


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


def _show_plan(settings: Settings, sweep: "TrainingSweep", last: "Sweep | None") -> None:
    """The trials, as far as they are known; a person sees the first TRIALS_SHOWN.

    last: the run that goes on, whose trials are not made again.
    """
    from trainyard_operator.defaults import Defaults
    from trainyard_operator.sweep.desired import build_trial
    from trainyard_operator.sweep.names import trials_text
    from trainyard_operator.sweep.search import first_trials, trials_in_all

    there = last.local_phases() if last else {}
    total = max(trials_in_all(sweep.spec), len(there))
    known = first_trials(sweep.spec, total if settings.is_structured else TRIALS_SHOWN)
    manifests = [build_trial(sweep, proposal, Defaults()) for proposal in known]
    if settings.is_structured:
        fresh = [one for one in manifests if one["metadata"]["name"] not in there]
        say(render_document(settings, fresh))
        return
    lines = [_planned(manifest, there) for manifest in manifests]
    further = set(there) - {manifest["metadata"]["name"] for manifest in manifests}
    lines += [_kept(name, there[name]) for name in sorted(further, key=lambda n: (len(n), n))]
    say("\n".join(lines[:TRIALS_SHOWN]))
    kept = f", {len(there)} of them there already" if there else ""
    shown = min(len(lines), TRIALS_SHOWN)
    more = f"; {total - shown} more" if shown < total else ""
    if more and sweep.spec.method == "bayes":
        more += " follow from their results"
    note(settings, f"nothing was started; there would be {trials_text(total)}{kept}{more}")


def _planned(manifest: dict[str, Any], there: dict[str, str]) -> str:
    """What would become of a trial. there: phases of those that are not made again."""
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    if name in there:
        return _kept(name, there[name])
    words = [f"create trainingjob/{name}", *(spec.get("overrides") or spec.get("args") or ())]
    return " ".join(words)


def _kept(name: str, phase: str) -> str:
    return f"keep trainingjob/{name}, {phase}" if phase else f"go on with trainingjob/{name}"
