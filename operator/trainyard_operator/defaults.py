"""What the operator's configuration adds to jobs, and where a job's results lie with it."""

from dataclasses import dataclass
from typing import Any

from trainyard_operator import layout
from trainyard_operator.api import Storage, TrainingJob


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What the operator's configuration adds to jobs that leave it out."""

    trainer_image: str = "trainyard-trainer:0.1.0"
    storage: Storage | None = None
    pull_secrets: tuple[str, ...] = ()
    """Secrets in each job's namespace that its images are pulled with, beside the template's."""
    secret: str = ""
    """What tokens of orders are made from. It may change: a pod keeps the one it was made with."""
    has_one_node: bool = False
    """Whether all pods run on one machine, as with `trainyard run`: none can be avoided."""

    @property
    def of_pods(self) -> dict[str, Any]:
        """Fields of every pod's spec."""
        secrets = [{"name": name} for name in self.pull_secrets]
        return {"imagePullSecrets": secrets} if secrets else {}


def storage_of(job: TrainingJob, defaults: Defaults) -> Storage | None:
    """The job's storage, or the operator's default."""
    return job.spec.storage or defaults.storage


def run_uri(job: TrainingJob, defaults: Defaults) -> str | None:
    """Where everything of this job lies; None without storage."""
    storage = storage_of(job, defaults)
    meta = job.metadata
    prefix = layout.run_prefix(meta.namespace, meta.name, meta.uid)
    return f"{storage.uri.rstrip('/')}/{prefix}" if storage else None
