"""Find what a job stored: through the job itself, or in storage alone once the job is gone."""

import dataclasses
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from trainyard.errors import NotAllowed, NotFound
from trainyard.jobs import Job, find_job, meant_sweep, own_cluster, resolve
from trainyard.options import Settings, StorageFlags
from trainyard.output import note
from trainyard_operator.layout import LOGS_PREFIX, run_prefix

if TYPE_CHECKING:
    from trainyard.cluster import Cluster
    from trainyard_trainer.storage import Storage

LOCAL_FOLDER = "runs"
"""Where `trainyard run` stores what has no storage of its own, below the working directory."""


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """What one run of a job left in storage."""

    name: str
    uid: str
    storage: "Storage"
    """At the run's own prefix."""
    job: Job | None = None
    """The job itself, while it is still there."""


def locate(
    settings: Settings, name: str, flags: StorageFlags, verb: str = "checkpoints"
) -> StoredRun:
    """The newest run of that name; of sweep/NAME its best trial's.

    verb: the command to be named where the job is gone. Raises NotFound, Unreachable, NotAllowed.
    """
    settings_of_sweep, sweep = meant_sweep(settings, name)
    if sweep:
        settings, name = _best_trial(settings_of_sweep, sweep)
    settings, name, _ = resolve(settings, name)
    if flags.storage:
        where = {"uri": as_uri(flags.storage), "endpoint": flags.endpoint, "region": flags.region}
        return _newest_run(settings, name, where)
    if flags.file:
        return _run_of_file(settings, name, _storage_of_file(flags.file) | _given(flags))
    try:
        return of_job(find_job(settings, name), flags)
    except NotFound as error:
        folder = Path(LOCAL_FOLDER).absolute()
        if (folder / (settings.namespace or "default") / name).is_dir():
            return _newest_run(settings, name, {"uri": folder.as_uri()})
        raise NotFound(
            error.message, storage_command(verb, name, _namespace(settings), {})
        ) from error


def _best_trial(settings: Settings, sweep: str) -> tuple[Settings, str]:
    """Its job, and where to look for it: a run of this machine may have the same name."""
    from trainyard.sweeps import find_sweep

    found = find_sweep(settings, sweep)
    best = found.best_job()
    note(settings, f"the best trial of {found.ref} is {found.best_words()}")
    if found.cluster:
        settings = dataclasses.replace(settings, namespace=found.namespace)
    return settings, best


def of_job(job: Job, flags: StorageFlags | None = None) -> StoredRun:
    """What a job that is still there stored. Raises NotFound where it has no storage."""
    where = (job.spec.get("storage") or {}) | _given(flags or StorageFlags())
    if not where.get("uri"):
        where |= _from_status(job)
    use_secret(job.cluster, where)
    storage = open_location(where).child(run_prefix(job.namespace, job.name, job.uid))
    return StoredRun(name=job.name, uid=job.uid, storage=storage, job=job)


def storage_command(verb: str, name: str, namespace: str | None, where: dict[str, Any]) -> str:
    """The command line that reads from storage alone; what is not known is in capitals."""
    is_known, uri = "uri" in where, where.get("uri") or "URI"
    words = ["trainyard", verb, name, "--storage", uri]
    if endpoint := where.get("endpoint") or ("" if is_known else "URL"):
        words += ["--endpoint", endpoint]
    if where.get("region"):
        words += ["--region", where["region"]]
    if namespace and namespace != "default":
        words += ["-n", namespace]
    return shlex.join(words)


def as_uri(text: str) -> str:
    """A URI as it is, a path as file://."""
    return text if "://" in text else Path(text).expanduser().absolute().as_uri()


def as_place(uri: str) -> str:
    """The other way round, for messages: a file:// URI as its path."""
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else uri


def _namespace(settings: Settings) -> str | None:
    """The one that was asked for, else the context's."""
    from trainyard.cluster import is_configured

    if settings.namespace or not is_configured(settings.context):
        return settings.namespace
    return own_cluster(settings).namespace


def _given(flags: StorageFlags) -> dict[str, Any]:
    values = {"endpoint": flags.endpoint, "region": flags.region}
    return {key: value for key, value in values.items() if value}


def open_location(where: dict[str, Any]) -> "Storage":
    """What the fields of a spec.storage name."""
    from trainyard_trainer.storage import open_storage

    return open_storage(
        where["uri"],
        endpoint=where.get("endpoint"),
        region=where.get("region"),
        compat=where.get("compat") or "aws",
    )


def _newest_run(settings: Settings, name: str, where: dict[str, Any]) -> StoredRun:
    """The run of that name that started last. Raises NotFound."""
    from trainyard_trainer.runs import newest_run

    namespace = settings.namespace or "default"
    base = open_location(where)
    uid = newest_run(base, namespace, name)
    if uid is None:
        raise NotFound(
            f"'{where['uri']}' holds no run of '{name}' in namespace '{namespace}'",
            f"trainyard checkpoints {name} --storage URI --endpoint URL -n NAMESPACE",
        )
    storage = base.child(run_prefix(namespace, name, uid))
    return StoredRun(name=name, uid=uid, storage=storage)


def _run_of_file(settings: Settings, name: str, where: dict[str, Any]) -> StoredRun:
    """A file goes to the namespace of the context; `trainyard run` knows only the default one."""
    in_context = dataclasses.replace(settings, namespace=_namespace(settings))
    try:
        return _newest_run(in_context, name, where)
    except NotFound:
        if in_context.namespace in (settings.namespace, "default"):
            raise
    return _newest_run(settings, name, where)


def _storage_of_file(file: str) -> dict[str, Any]:
    from trainyard.yamltext import read_yaml

    value = read_yaml(Path(file)).value
    spec = value.get("spec") if isinstance(value, dict) else None
    storage = spec.get("storage") if isinstance(spec, dict) else None
    if not isinstance(storage, dict) or "uri" not in storage:
        raise NotFound(f"{file}: has no spec.storage.uri", "name the storage with --storage URI")
    return storage


def _from_status(job: Job) -> dict[str, Any]:
    """The operator's default storage, as seen in where the logs went."""
    suffix = f"/{run_prefix(job.namespace, job.name, job.uid)}/{LOGS_PREFIX}"
    uri = job.status.logs.uri if job.status.logs else ""
    if uri.endswith(suffix):
        return {"uri": uri.removesuffix(suffix)}
    raise NotFound(
        f"job '{job.name}' has no storage", f"trainyard checkpoints {job.name} --storage URI"
    )


def use_secret(cluster: "Cluster | None", where: dict[str, Any]) -> None:
    """Without credentials of one's own, those of the job, if one may read them."""
    name = (where.get("credentialsSecretRef") or {}).get("name")
    has_own = any(key in os.environ for key in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"))
    if cluster is None or not name or has_own:
        return
    try:
        values = cluster.secret(name)
    except (NotAllowed, NotFound):
        return  # Perhaps a file or this machine's identity will do.
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if key in values:
            os.environ[key] = values[key]
