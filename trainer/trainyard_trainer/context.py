"""Where a process stands in its run: read once from the environment, then passed along."""

import contextlib
import dataclasses
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainyard_operator.contract import REPORT_FILE, Env, RunRequest
from trainyard_operator.layout import run_prefix
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.storage import Patience, Storage, open_storage
from trainyard_trainer.storage_errors import URI_FIELD

FLUSH_SECONDS = 30
"""Between uploads of logs and curves, where spec.logs.flushSeconds says nothing."""


@dataclass(frozen=True, kw_only=True)
class StorageLocation:
    """spec.storage as the trainer sees it; credentials come from the AWS provider chain."""

    uri: str
    endpoint: str | None
    region: str | None
    compat: str | None = None
    """Dialect of an S3 server; None until the launcher has found out."""
    patience: Patience | None = None
    """None: as `Patience` has it."""

    def open(
        self, uri: str | None = None, *, compat: str | None = None, field: str = URI_FIELD
    ) -> Storage:
        """Storage at `uri`, by default the run's; compat: in place of its own.

        field: where the URI is written.
        """
        return open_storage(
            uri or self.uri,
            endpoint=self.endpoint,
            region=self.region,
            compat=compat or self.compat,
            patience=self.patience,
            field=field,
        )


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """One node of one attempt of one job."""

    job: str
    namespace: str
    uid: str
    attempt: int
    nodes: int
    node_index: int
    processes_per_node: int
    master_addr: str
    master_port: int
    progress_port: int | None
    """None: nothing is served."""
    scratch: Path
    termination_log: Path
    storage: StorageLocation
    request: RunRequest
    config_from: str | None
    """YAML text of spec.configFrom."""
    node_memory: Path | None = None
    """Directory in the node's memory that outlives a rank; None: there is none."""
    dataset_cache: Path | None = None
    """Volume that keeps data sets; None: there is none."""
    order_token: str | None = field(default=None, repr=False)
    """What an Order must bring along; None: none is taken."""

    @property
    def world_size(self) -> int:
        """Ranks in the whole gang."""
        return self.nodes * self.processes_per_node

    @property
    def first_rank(self) -> int:
        """Global rank of this node's local rank 0."""
        return self.node_index * self.processes_per_node

    @property
    def run_prefix(self) -> str:
        """Everything this run writes lies below this prefix of the storage."""
        return run_prefix(self.namespace, self.job, self.uid)

    @property
    def is_local(self) -> bool:
        """Whether all nodes are processes of this machine."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.master_addr).is_loopback
        return self.master_addr == "localhost"

    @property
    def flush_seconds(self) -> float:
        """Time between uploads of logs and curves."""
        return float(self.request.logs.get("flushSeconds") or FLUSH_SECONDS)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "RunContext":
        """Raises ConfigurationError naming the variable that is absent or malformed."""
        try:
            return cls(
                job=environ[Env.JOB],
                namespace=environ[Env.NAMESPACE],
                uid=environ[Env.JOB_UID],
                attempt=int(environ[Env.ATTEMPT]),
                nodes=int(environ[Env.NODES]),
                node_index=int(environ.get(Env.NODE_INDEX) or environ["PET_NODE_RANK"]),
                processes_per_node=int(environ[Env.PROCESSES_PER_NODE]),
                master_addr=environ["MASTER_ADDR"],
                master_port=int(environ["MASTER_PORT"]),
                progress_port=int(environ.get(Env.PROGRESS_PORT, "0")) or None,
                scratch=Path(environ[Env.SCRATCH]),
                termination_log=Path(environ[Env.TERMINATION_LOG]),
                storage=StorageLocation(
                    uri=environ[Env.STORAGE_URI],
                    endpoint=environ.get(Env.STORAGE_ENDPOINT) or None,
                    region=environ.get(Env.STORAGE_REGION) or None,
                    compat=environ.get(Env.STORAGE_COMPAT) or None,
                ),
                request=RunRequest.from_json(environ[Env.RUN]),
                config_from=environ.get(Env.CONFIG_FROM),
                node_memory=_path(environ.get(Env.NODE_MEMORY)),
                dataset_cache=_path(environ.get(Env.DATASET_CACHE)),
                order_token=environ.get(Env.ORDER_TOKEN) or None,
            )
        except KeyError as error:
            raise ConfigurationError(
                f"environment: {error.args[0]} is not set; the trainer is started by Trainyard's "
                "operator or by 'trainyard run'."
            ) from error
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"environment: {error}") from error


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One process of the gang."""

    run: RunContext
    local_rank: int

    @property
    def global_rank(self) -> int:
        """0 .. world_size - 1."""
        return self.run.first_rank + self.local_rank

    @property
    def is_first(self) -> bool:
        """Whether this rank reports for the whole gang."""
        return self.global_rank == 0


def report_file(scratch: Path) -> Path:
    """Rank 0 keeps its newest contract.Report here; the launcher serves it."""
    return scratch / REPORT_FILE


def failure_file(scratch: Path, global_rank: int) -> Path:
    """A rank that fails leaves a Failure here before it exits."""
    return scratch / f"failure-{global_rank}.json"


def pid_file(scratch: Path, global_rank: int) -> Path:
    """The process id of a running rank, as text."""
    return scratch / f"rank-{global_rank}.pid"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a rank ended, as it says itself."""

    exit_code: int
    cause: str
    message: str
    waited: bool = False
    """Whether it made no progress since it waited for other ranks."""

    def to_dict(self) -> dict[str, object]:
        """For the failure file, as JSON."""
        return dataclasses.asdict(self)
