"""A job wherever it lives: in a cluster, or in what `trainyard run` keeps on this machine."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trainyard.errors import NotFound, UsageError
from trainyard.options import Settings, sweep_name
from trainyard.resource import Resource
from trainyard.state import LocalJob, last_job, local_jobs, newest_local_job
from trainyard_operator.status import FINISHED, JobStatus, parse_status

if TYPE_CHECKING:
    from trainyard.cluster import Cluster

LAST = "@last"


@dataclass(frozen=True)
class Job(Resource):
    """A TrainingJob."""

    @property
    def ref(self) -> str:
        """What a command takes."""
        return self.name

    @cached_property
    def status(self) -> JobStatus:
        """The typed status."""
        return parse_status(self.object.get("status"))

    @property
    def phase(self) -> str:
        """The phase; Pending before anybody looked at the job."""
        return self.status.phase or "Pending"

    @property
    def is_finished(self) -> bool:
        """Whether it succeeded or failed."""
        return self.status.phase in FINISHED

    def suspend(self, wanted: bool) -> None:
        """Of a cluster's job: set spec.runPolicy.suspend."""
        if self.cluster:
            self.cluster.patch_job(self.name, {"spec": {"runPolicy": {"suspend": wanted}}})

    def delete(self) -> None:
        """Delete it; on this machine, forget it. What it stored stays."""
        if self.cluster:
            self.cluster.delete_job(self.name)
        elif self.local:
            forget(self.local)

    def stored_as(self) -> tuple[str, dict[str, Any]]:
        """By what name, and where, its results are found once it is gone; see `locate`."""
        return self.name, self.spec.get("storage") or {}

    def _read(self, cluster: "Cluster") -> dict[str, Any]:
        return cluster.get_job(self.name)

    def _gone(self) -> NotFound:
        return NotFound(f"job '{self.name}' was deleted")


def forget(local: LocalJob) -> None:
    """Of a job that no runner holds."""
    from trainyard.local.node_memory import remove_node_memory

    remove_node_memory(str(local.object["metadata"]["uid"]))
    local.remove()


def resolve(settings: Settings, name: str) -> tuple[Settings, str, bool]:
    """Replace @last: (settings, name, whether only this machine is meant).

    Raises UsageError for a sweep, which is many jobs, and for no name at all.
    """
    where, sweep = meant_sweep(settings, name)
    if sweep:
        from trainyard.sweeps import many_jobs

        raise many_jobs(where, sweep)
    if name != LAST:
        job = name.removeprefix("trainingjob/").removeprefix("tj/")
        if not job:
            raise UsageError(f"'{name}' names no job; write its name", "trainyard get")
        return settings, job, False
    last = last_job()
    if last is None:
        raise NotFound("no job was started from here yet", "trainyard run --help")
    return _where_last(settings, last), last["name"], last["place"] == "local"


def meant_sweep(settings: Settings, name: str) -> tuple[Settings, str | None]:
    """Where to look, and a sweep's own name: of sweep/NAME, and of @last after a sweep."""
    last = last_job() if name == LAST else None
    if last is None:
        return settings, sweep_name(name)
    return _where_last(settings, last), sweep_name(last["name"])


def _where_last(settings: Settings, last: dict[str, Any]) -> Settings:
    """The cluster that it was sent to, unless another is named."""
    if last["place"] == "local":
        return settings
    return dataclasses.replace(
        settings,
        context=settings.context or last.get("context"),
        namespace=settings.namespace or last["namespace"],
    )


def find_job(settings: Settings, name: str) -> Job:
    """A job of this machine, else of the cluster; naming one with -n or --context skips the former.

    Raises NotFound, Unreachable.
    """
    settings, name, only_local = resolve(settings, name)
    if not settings.names_cluster and (local := newest_local_job(name)):
        return Job(local.object, local=local)
    if only_local:
        raise NotFound(f"the run '{name}' was deleted from this machine", "trainyard get")
    from trainyard.cluster import Cluster, is_configured

    if not is_configured(settings.context):
        raise NotFound(
            f"there is no job '{name}' on this machine, and no cluster is configured",
            "trainyard get",
        )
    cluster = Cluster(settings.context, settings.namespace)
    return Job(cluster.get_job(name), cluster=cluster)


def own_cluster(settings: Settings) -> "Cluster":
    """The cluster of the settings."""
    from trainyard.cluster import Cluster

    return Cluster(settings.context, settings.namespace)


def newest_local() -> Iterator[Job]:
    """The last run of each name on this machine."""
    seen: set[str] = set()
    for local in local_jobs():
        job = Job(local.object, local=local)
        if job.name not in seen:
            seen.add(job.name)
            yield job


def require_job(name: str | None) -> str:
    """The name, or @last where none was typed."""
    if name:
        return name
    if last_job() is None:
        raise UsageError("which job?", "trainyard get")
    return LAST
