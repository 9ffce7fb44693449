"""`trainyard run`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from trainyard.commands.arguments import (
    assignments_argument,
    config_file_option,
    guide_option,
    target_argument,
)
from trainyard.errors import Exit, Interrupted, Rejected
from trainyard.options import Settings, Verb
from trainyard.output import note, render_document, say

if TYPE_CHECKING:
    from trainyard.jobfile import JobFile
    from trainyard.jobs import Job
    from trainyard.state import LocalJob


@click.command("run", cls=Verb)
@target_argument()
@assignments_argument()
@config_file_option()
@click.option("--name", help="Name of the job, instead of the file's.")
@click.option("--nodes", type=int, help="Number of nodes: processes started here.")
@click.option("--dataset", metavar="PATH|URI", help="Data to train on, instead of the file's.")
@click.option("--storage", metavar="PATH|URI", help="Where results go, instead of the file's.")
@click.option("--endpoint", metavar="URL", help="Address of the S3 server of --storage.")
@guide_option()
@click.option(
    "--fresh",
    is_flag=True,
    help="Begin anew where an unfinished run would go on; what it saved stays in storage.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be started.")
@click.pass_obj
def command(
    settings: Settings, guide: Path | None, fresh: bool, dry_run: bool, **typed: Any
) -> int:
    """Run a job on this machine, with the cluster's own rules and processes instead of pods.

    FILE is a TrainingJob or a TrainingSweep; RECIPE the name of one, with its defaults. key=value
    sets the recipe's configuration, spec.key=value the job itself. Without storage, results go to
    ./runs. The first Ctrl-C saves a checkpoint, and the same command then goes on from it.

    \b
    trainyard run job.yaml
    trainyard run job.yaml training.epochs=3 spec.nodes=2
    trainyard run classification --dataset ./photos --nodes 2
    trainyard run classification --config guide.yaml -- --fold 0 --lr 0.01
    trainyard run sweep.yaml spec.parallelism=2
    trainyard run skin-lesion --dataset ./ham --sweep sweeps.yaml
    """
    from trainyard.jobfile import load_job
    from trainyard.state import remember_last
    from trainyard.sweepfile import is_sweep_file

    if guide or is_sweep_file(typed["target"]):
        from trainyard.commands.run_sweep import run_sweep

        target = _typed_again(typed | {"sweep": guide})
        return run_sweep(
            settings, _request(typed), guide, target=target, fresh=fresh, dry_run=dry_run
        )
    job_file = load_job(_request(typed))
    target = _typed_again(typed)
    _require_runnable(job_file)
    if dry_run:
        _show_plan(settings, job_file)
        return Exit.DONE
    local = _local_job(settings, job_file, target, fresh)
    remember_last("local", job_file.job.metadata.name, job_file.job.metadata.namespace)
    return _run(settings, local)


def _require_runnable(job_file: "JobFile") -> None:
    """Raises Rejected for what only a cluster has, and for storage of a sweep."""
    from trainyard.rival import require_own_storage

    spec = job_file.job.spec
    if spec.config_from:
        raise Rejected(
            "spec.configFrom reads a ConfigMap of a cluster; write its keys below spec.config"
        )
    if spec.storage:
        require_own_storage("spec.storage.uri", spec.storage.uri, "the job")


def _request(typed: dict[str, Any]) -> Any:
    """What was typed, with what a run on one machine needs added."""
    from trainyard.jobfile import Request
    from trainyard.locate import as_uri

    given: list[tuple[str, Any]] = [("spec.backend", "pods")]
    if typed["storage"]:
        storage = {"uri": as_uri(typed["storage"])}
        storage |= {"endpoint": typed["endpoint"]} if typed["endpoint"] else {}
        given.append(("spec.storage", storage))
    if typed["dataset"]:
        given.append(("spec.dataset.uri", as_uri(typed["dataset"])))
    return Request(
        target=typed["target"],
        assignments=typed["assignments"],
        config_file=typed["config_file"],
        name=typed["name"],
        nodes=typed["nodes"],
        settings=tuple(given),
        is_local=True,
    )


def _typed_again(typed: dict[str, Any]) -> str:
    """What to type after `trainyard run` to go on with the same job."""
    import shlex

    names = ("name", "nodes", "dataset", "storage", "endpoint", "config_file", "sweep")
    given = [(name.removesuffix("_file"), str(typed[name])) for name in names if typed.get(name)]
    options = [word for name, value in given for word in (f"--{name}", value)]
    flags = ["--"] if any(word.startswith("-") for word in typed["assignments"]) else []
    return shlex.join([typed["target"], *options, *flags, *typed["assignments"]])


def _local_job(settings: Settings, job_file: "JobFile", target: str, fresh: bool) -> "LocalJob":
    """The unfinished run to go on with, or a new one; its file is brought up to date."""
    from trainyard.jobs import Job
    from trainyard.quantities import utc_now
    from trainyard.state import new_local_job, newest_local_job
    from trainyard_operator.contract import Annotation, now_text

    manifest, meta = job_file.manifest, job_file.job.metadata
    _require_idle(meta.name, manifest["spec"].get("storage"))
    before = newest_local_job(meta.name)
    old = Job(before.object, local=before) if before else None
    goes_on = (
        old is not None
        and not fresh
        and not old.is_finished
        and old.spec.get("storage") == manifest["spec"].get("storage")
    )
    if before and old and goes_on:
        note(settings, f"going on with {meta.name}, {_since(old)}; --fresh begins anew")
        if old.spec != manifest["spec"]:
            note(settings, "the job was edited since; the edited one is run")
        local, metadata, status = before, dict(old.object["metadata"]), old.object.get("status")
        metadata["generation"] = int(metadata.get("generation", 1)) + (old.spec != manifest["spec"])
    else:
        if told := _why_anew(old, manifest["spec"].get("storage"), fresh):
            note(settings, told)
        uid = str(uuid4())
        local, status = new_local_job(meta.name, uid), None
        metadata = {
            **manifest["metadata"],
            "namespace": meta.namespace,
            "uid": uid,
            "generation": 1,
            "creationTimestamp": now_text(utc_now()),
        }
    annotations = {**(metadata.get("annotations") or {}), Annotation.RUN_TARGET: target}
    metadata["annotations"] = annotations
    if local.runner_pid is None:
        local.save({**manifest, "metadata": metadata, "status": status or {}})
    return local


def _require_idle(name: str, storage: dict[str, Any] | None) -> None:
    """Raises ClientError where a run of that name is at work with the same storage."""
    from trainyard.local.runner import already_runs
    from trainyard.state import local_jobs

    for local in local_jobs(name):
        if local.runner_pid and local.object["spec"].get("storage") == storage:
            raise already_runs(local)


def _why_anew(old: "Job | None", storage: dict[str, Any] | None, fresh: bool) -> str:
    """A line on the last run, which does not go on; empty where there is nothing to say."""
    from trainyard.locate import as_place

    if old is None:
        return ""
    uri = (old.spec.get("storage") or {}).get("uri")
    is_same = not uri or uri == (storage or {}).get("uri")
    where = "" if is_same else f", whose results lie in {as_place(str(uri))},"
    if old.phase == "Failed":
        return f"the last run of {old.name}{where} failed; a new one begins at step 0"
    if old.local and old.local.runner_pid:
        return f"another run of {old.name}{where} is at work; a new one begins beside it"
    if old.is_finished or fresh:
        return ""
    return f"the unfinished run of {old.name}{where} does not go on; a new one begins"


def _since(old: "Job") -> str:
    latest = old.status.checkpoints.latest
    return f"stopped after step {latest.step}" if latest else "which saved no checkpoint yet"


def _run(settings: Settings, local: "LocalJob") -> int:
    from trainyard.display import Display
    from trainyard.jobs import Job
    from trainyard.local.runner import LocalRunner, StopRequest, stopping_on_signals
    from trainyard_operator.api import TrainingJob

    stored = local.object
    typed = {key: value for key, value in stored.items() if key != "status"}
    job = TrainingJob.model_validate(typed)
    told = False
    stream = sys.stdout if settings.output == "json" else sys.stderr
    with stopping_on_signals(StopRequest()) as stop, Display(settings, stream) as display:
        display.skip_history(Job(stored, local=local))

        def show(current: Job) -> None:
            nonlocal told
            if stop.count and not told:
                told = True
                display.say("stopping: ranks save a checkpoint; Ctrl-C again ends them at once")
            display.update(current)

        ended = LocalRunner(local, job, stop).run(show)
    return _conclude(settings, ended, was_forced=stop.count > 1)


def _conclude(settings: Settings, job: "Job", *, was_forced: bool) -> int:
    """The last lines, and the exit code."""
    from trainyard.follow import raise_for_end
    from trainyard.locate import of_job
    from trainyard.story import end_lines, next_command, run_target

    status = job.status
    if settings.output == "yaml":
        say(render_document(settings, job.object))
    elif settings.output == "name":
        say(job.name)
    if status.phase == "Failed":
        raise_for_end(job)
    if status.phase != "Succeeded":
        saved = _how_it_stopped(job, was_forced)
        raise Interrupted(f"{job.name} {saved}", f"trainyard run {run_target(job)}")
    if settings.output in {None, "wide"}:
        uri = of_job(job).storage.uri if job.spec.get("recipe") else None
        say("\n".join(end_lines(job, uri)))
        if uri:
            note(settings, f"next: {next_command(job)}")
    sys.stdout.flush()
    return Exit.DONE


def _how_it_stopped(job: "Job", was_forced: bool) -> str:
    latest = job.status.checkpoints.latest
    if latest is None:
        return "stopped; there is no checkpoint yet"
    if was_forced:
        return f"was ended at once; the last checkpoint is of step {latest.step}"
    return f"stopped at step {latest.step}; checkpoint saved"


def _show_plan(settings: Settings, job_file: "JobFile") -> None:
    """What the planner would do, as documents; its refusal as an error."""
    from trainyard.local.runner import planned
    from trainyard_operator.decision import Create
    from trainyard_operator.status import JobStatus

    job = job_file.job
    metadata = job.metadata.model_copy(update={"uid": "0" * 8 + "-dry-run"})
    decision = planned(job.model_copy(update={"metadata": metadata}), JobStatus())
    manifests = [action.manifest for action in decision.actions if isinstance(action, Create)]
    if not manifests:
        raise Rejected(decision.events[0].message if decision.events else "nothing would be run")
    if settings.output in {"json", "yaml"}:
        say(render_document(settings, manifests))
        return
    for manifest in manifests:
        say(f"create {manifest['kind'].lower()}/{manifest['metadata']['name']}")
        if manifest["kind"] == "Pod" and settings.output == "wide":
            container = manifest["spec"]["containers"][0]
            say("  " + " ".join([*container["command"], *container.get("args", [])]))
    where = job.spec.storage.uri if job.spec.storage else Path.cwd()
    note(settings, f"nothing was started; results would go to {where}")
