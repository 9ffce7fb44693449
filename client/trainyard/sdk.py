"""The Python SDK: the same words as the command line.

ty = trainyard.Client()
job = ty.submit("digits.yaml", overrides={"training.epochs": 3})
job.wait(timeout="1h")
path = job.checkpoints.best.fetch("models/")
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.jobs import Job, find_job, own_cluster
from trainyard.logs import LogLine, follow_logs, open_logs, select
from trainyard.options import Duration, Settings
from trainyard_operator.status import HistoryEntry

if TYPE_CHECKING:
    from trainyard_trainer.directory_manifest import DirectoryManifest
    from trainyard_trainer.manifest import Manifest


class Client:
    """One cluster's jobs, and the runs of this machine."""

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        self._settings = Settings(context=context, namespace=namespace)

    def submit(
        self,
        target: str | Path,
        *,
        name: str | None = None,
        nodes: int | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> "JobHandle":
        """Send a file or a recipe to the cluster. Raises Rejected, Unreachable."""
        from trainyard.commands.submit import send
        from trainyard.jobfile import Request, load_job

        assignments = [f"{key}={value}" for key, value in (overrides or {}).items()]
        request = Request(target=str(target), assignments=assignments, name=name, nodes=nodes)
        cluster = own_cluster(self._settings)
        manifest = load_job(request).manifest
        manifest["metadata"]["namespace"] = cluster.namespace
        return JobHandle(send(cluster, manifest))

    def get(self, name: str) -> "JobHandle":
        """A job by its name, or @last. Raises NotFound."""
        return JobHandle(find_job(self._settings, name))

    def list(self) -> "list[JobHandle]":
        """The jobs of the cluster's namespace."""
        cluster = own_cluster(self._settings)
        return [JobHandle(Job(item, cluster=cluster)) for item in cluster.list_jobs()]


class JobHandle:
    """A job; `phase` and the like are as of the last look, `refresh` looks again."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def name(self) -> str:
        """Its name."""
        return self._job.name

    @property
    def phase(self) -> str:
        """Pending, Starting, Running, Restarting, Suspended, Succeeded or Failed."""
        return self._job.phase

    @property
    def status(self) -> dict[str, Any]:
        """The status as stored."""
        return self._job.object.get("status") or {}

    def refresh(self) -> "JobHandle":
        """Look again; returns itself. Raises NotFound once it is gone."""
        self._job = self._job.refreshed()
        return self

    def wait(self, timeout: str | float | None = None) -> "JobHandle":
        """Wait for the end. Raises JobFailed, JobStopped, WaitTimeout."""
        from trainyard.follow import wait_for

        seconds = Duration().convert(timeout, None, None) if timeout is not None else None
        self._job = wait_for(self._job, timeout=seconds)
        return self

    def watch(self) -> Iterator[str]:
        """The lines of its story as they come, until its end."""
        from trainyard.follow import changes

        told: set[HistoryEntry] = set()
        for job in changes(self._job):
            self._job = job
            for entry in job.status.history:
                if entry not in told:
                    told.add(entry)
                    yield entry.message

    def logs(self, rank: int | None = 0, *, follow: bool = False) -> Iterator[LogLine]:
        """Log lines of a rank, all where None; following crosses restarts."""
        if not follow:
            yield from select(open_logs(self._job).poll(), rank, None)
            return
        for job, lines in follow_logs(self._job):
            self._job = job
            yield from select(lines, rank, None)

    @property
    def checkpoints(self) -> "CheckpointList":
        """What is in its storage now."""
        return CheckpointList(self._job)


class CheckpointList:
    """The checkpoints of a job, read once."""

    def __init__(self, job: Job) -> None:
        from trainyard.copies import read_stored
        from trainyard.locate import of_job

        self._catalogue = read_stored(of_job(job))

    def __iter__(self) -> "Iterator[StoredCheckpoint]":
        return iter([StoredCheckpoint(self._catalogue, m) for m in self._catalogue.entries])

    @property
    def best(self) -> "StoredCheckpoint":
        """By the job's own metric. Raises CheckpointMissing."""
        return self["best"]

    @property
    def latest(self) -> "StoredCheckpoint":
        """The newest. Raises CheckpointMissing."""
        return self["latest"]

    def __getitem__(self, which: str | int) -> "StoredCheckpoint":
        return StoredCheckpoint(self._catalogue, self._catalogue.pick(str(which)))


@dataclass(frozen=True)
class StoredCheckpoint:
    """One checkpoint, or one copy of a program's checkpoint directory."""

    _catalogue: Any
    manifest: "Manifest | DirectoryManifest"

    @property
    def step(self) -> int | None:
        """Optimizer steps it holds; None where the program reported none."""
        return self.manifest.step

    @property
    def metrics(self) -> dict[str, float]:
        """The last known values when it was saved."""
        return dict(self.manifest.metrics)

    def fetch(self, directory: str | Path, *, everything: bool = False) -> Path:
        """Download the weights, or the copy, verified; returns the folder."""
        catalogue, which = self._catalogue, self._catalogue.name_of(self.manifest)
        path: Path = catalogue.fetch(which, Path(directory), everything=everything)
        return path
