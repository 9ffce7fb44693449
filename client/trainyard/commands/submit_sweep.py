"""`trainyard submit` of a sweep."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.errors import NotFound, Rejected
from trainyard.options import Settings
from trainyard.output import note, render_document, say

if TYPE_CHECKING:
    from trainyard.cluster import Cluster
    from trainyard.jobfile import Request
    from trainyard.sweeps import Sweep


def submit_sweep(
    settings: Settings,
    request: "Request",
    guide: Path | None,
    *,
    detach: bool,
    dry_run: bool,
    replace: bool,
) -> None:
    """Create the sweep or bring it in line with its file, then watch it. Raises ClientError."""
    from trainyard.commands.watch import follow_sweep
    from trainyard.jobs import own_cluster
    from trainyard.state import remember_last
    from trainyard.sweepfile import load_sweep
    from trainyard.sweeps import Sweep

    found = load_sweep(request, guide)
    for notice in found.notices:
        note(settings, notice)
    manifest = found.manifest
    metadata = manifest["metadata"]
    cluster = own_cluster(settings.within(metadata.get("namespace")))
    metadata["namespace"] = cluster.namespace
    old = _make_room(settings, cluster, metadata["name"], replace and not dry_run)
    body = {key: value for key, value in manifest.items() if key != "status"}
    if old:
        _require_comparable(old, cluster.apply_sweep(body, dry_run=True))
    sweep = Sweep(cluster.apply_sweep(body, dry_run=dry_run), cluster)
    if not dry_run:
        remember_last("cluster", sweep.ref, cluster.namespace, settings.context)
    if sys.stdout.isatty() and not (detach or dry_run or settings.output):
        note(settings, f"submitted {sweep.name}; Ctrl-C leaves, the sweep goes on")
        follow_sweep(settings, sweep)
    elif settings.is_structured:
        say(render_document(settings, sweep.object))
    else:
        note(settings, f"{'would submit' if dry_run else 'submitted'} to {cluster.namespace}:")
        say(sweep.ref)


def _make_room(settings: Settings, cluster: "Cluster", name: str, replace: bool) -> "Sweep | None":
    """The sweep that is to be brought in line, if any; one that has ended never goes on."""
    from trainyard.sweeps import Sweep

    try:
        old = Sweep(cluster.get_sweep(name), cluster)
    except NotFound:
        return None
    if not old.is_finished:
        return old
    if not replace:
        raise Rejected(
            f"'{name}' has already {old.phase.lower()}, and a sweep that has ended never goes on",
            f"trainyard submit ... --name {name}-2, or --replace",
        )
    old.delete()
    note(settings, f"deleted the finished sweep '{name}'; what it stored stays")
    old.wait_until_gone()
    return None


def _require_comparable(old: "Sweep", new: dict[str, Any]) -> None:
    """Raises Rejected where the operator would begin no trial any more.

    new: the sweep as the API server would store it, so that both have its defaults.
    """
    from trainyard.sweepchange import mixing
    from trainyard_operator.sweep.api import SweepSpec
    from trainyard_operator.sweep.desired import spec_hash

    before, after = (SweepSpec.model_validate(spec) for spec in (old.spec, new["spec"]))
    if old.status.spec_hash and spec_hash(before) != spec_hash(after):
        raise mixing(before, after, f"trainyard submit ... --name {old.name}-2")
