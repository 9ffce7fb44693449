"""`trainyard submit`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainyard.commands.arguments import (
    assignments_argument,
    config_file_option,
    guide_option,
    target_argument,
)
from trainyard.errors import NotFound, Rejected
from trainyard.options import Settings, Verb
from trainyard.output import note, render_document, say

if TYPE_CHECKING:
    from trainyard.cluster import Cluster
    from trainyard.jobfile import Request
    from trainyard.jobs import Job


@click.command("submit", cls=Verb)
@target_argument()
@assignments_argument()
@config_file_option()
@click.option("--name", help="Name of the job, instead of the file's.")
@click.option("--nodes", type=int, help="Number of nodes.")
@guide_option()
@click.option("--detach", is_flag=True, help="Do not watch; print the name.")
@click.option("--dry-run", is_flag=True, help="Let the API server check it, and create nothing.")
@click.option("--replace", is_flag=True, help="Delete what has ended under the same name first.")
@click.pass_obj
def command(
    settings: Settings,
    guide: Path | None,
    detach: bool,
    dry_run: bool,
    replace: bool,
    **typed: Any,
) -> None:
    """Send a job or a sweep to the cluster, then watch it; without a terminal, print its name.

    A job of that name that is still going is brought in line with the file. key=value sets the
    recipe's configuration, spec.key=value the job or sweep itself.
    """
    from trainyard.commands.submit_sweep import submit_sweep
    from trainyard.jobfile import Request
    from trainyard.sweepfile import is_sweep_file

    request, how = Request(**typed), {"detach": detach, "dry_run": dry_run, "replace": replace}
    if guide or is_sweep_file(typed["target"]):
        submit_sweep(settings, request, guide, **how)
    else:
        submit_job(settings, request, **how)


def submit_job(
    settings: Settings, request: "Request", *, detach: bool, dry_run: bool, replace: bool
) -> None:
    """Create the job or bring it in line with its file, then watch it. Raises ClientError."""
    from trainyard.jobfile import load_job
    from trainyard.jobs import own_cluster
    from trainyard.state import remember_last

    manifest = load_job(request).manifest
    cluster = own_cluster(settings.within(manifest["metadata"].get("namespace")))
    manifest["metadata"]["namespace"] = cluster.namespace
    old = _make_room(settings, cluster, manifest["metadata"]["name"], replace and not dry_run)
    job = send(cluster, manifest, dry_run=dry_run)
    if old and old.is_finished:
        _check_edited(old, job)
    if not dry_run:
        remember_last("cluster", job.name, cluster.namespace, settings.context)
    attached = sys.stdout.isatty() and not (detach or dry_run or settings.output)
    if attached:
        note(settings, f"submitted {job.name}; Ctrl-C leaves, the job goes on")
        from trainyard.commands.watch import follow_to_end

        follow_to_end(settings, job)
    elif settings.is_structured:
        say(render_document(settings, job.object))
    else:
        note(settings, f"{'would submit' if dry_run else 'submitted'} to {cluster.namespace}:")
        say(job.name)


def send(cluster: "Cluster", manifest: dict[str, Any], *, dry_run: bool = False) -> "Job":
    """Create the job or bring it in line."""
    from trainyard.jobs import Job

    body = {key: value for key, value in manifest.items() if key != "status"}
    return Job(cluster.apply_job(body, dry_run=dry_run), cluster=cluster)


def _make_room(settings: Settings, cluster: "Cluster", name: str, replace: bool) -> "Job | None":
    """The job that is to be brought in line, if any.

    A finished job never runs again, unless an edit mends it: its name is free only once it is
    deleted.
    """
    from trainyard.jobs import Job

    try:
        old = Job(cluster.get_job(name), cluster=cluster)
    except NotFound:
        return None
    if not old.is_finished or (_is_mendable(old) and not replace):
        return old
    if not replace:
        raise Rejected(
            f"'{name}' has already {old.phase.lower()}, and a finished job never runs again",
            f"trainyard submit ... --name {name}-2, or --replace",
        )
    old.delete()
    note(settings, f"deleted the finished job '{name}'; what it stored stays")
    old.wait_until_gone()
    return None


def _check_edited(old: "Job", job: "Job") -> None:
    """Raises Rejected where the file changed nothing of a job that only an edit starts again."""
    if job.object["metadata"]["generation"] == old.object["metadata"]["generation"]:
        raise Rejected(
            f"'{job.name}' has already {old.phase.lower()}, and the file changes nothing of it: "
            "correct the file",
            "trainyard submit ... --replace, to run it again as it is",
        )


def _is_mendable(job: "Job") -> bool:
    """Whether the operator starts it again once its spec is corrected."""
    from trainyard_operator.plan import MENDABLE

    return job.status.failure is not None and job.status.failure.cause in MENDABLE
