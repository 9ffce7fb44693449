"""What a checkpointer is told, and what it tells: plain records, no torch."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from trainyard_trainer.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whose checkpoints these are."""

    namespace: str
    job: str
    uid: str
    attempt: int
    config_hash: str = ""

    def owns(self, manifest: Manifest) -> bool:
        """Whether it is of this run, whatever the attempt."""
        mine = (self.namespace, self.job, self.uid)
        return mine == (manifest.namespace, manifest.job, manifest.uid)


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a run is; fields as in the manifest."""

    step: int
    epoch: int = 0
    stage: str = ""
    cursor: int = 0
    samples_seen: int = 0


class Need(IntEnum):
    """What a save is worth while the one before it is still being uploaded."""

    USUAL = 0
    """It is skipped: the next one will do."""
    BEST = 1
    """Training waits a while for that upload, but only where storage works."""
    REQUIRED = 2
    """Training waits for that upload, up to a time limit."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A complete checkpoint, as the progress report shows it."""

    step: int
    epoch: int
    uri: str
    size_bytes: int
    sha256: str
    """Digest of the manifest, hence of everything."""
    time: str
    metric: str | None = None
    value: float | None = None

    def to_report(self) -> dict[str, Any]:
        """For `contract.Report.latest` and `.best`."""
        report: dict[str, Any] = {
            "step": self.step,
            "epoch": self.epoch,
            "uri": self.uri,
            "bytes": self.size_bytes,
            "sha256": self.sha256,
            "time": self.time,
        }
        if self.metric is not None and self.value is not None:
            report |= {"metric": self.metric, "value": f"{self.value:.6g}"}
        return report


@dataclass
class Timing:
    """What saving cost this rank, in seconds and bytes, since the process began."""

    saves: int = 0
    failures: int = 0
    skipped: int = 0
    """Saves that were due while another was still being uploaded."""
    blocked_seconds: float = 0.0
    """Training stood still: agreements, copies to the host, and waits for an upload."""
    upload_seconds: float = 0.0
    uploaded_bytes: int = 0
    host_bytes: int = 0
    """Size of the buffers that hold this rank's share of a snapshot."""
    memory_bytes: int = 0
    """What this rank holds of the newest checkpoint in its node's memory."""
