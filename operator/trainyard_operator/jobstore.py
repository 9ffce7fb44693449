"""The TrainingJobs as last seen, by the watch or by the answer to a write of our own."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from trainyard_operator.reflector import Key


@dataclass
class JobStore:
    """Raw objects by namespace and name."""

    jobs: dict[Key, dict[str, Any]] = field(default_factory=dict)

    def get(self, key: Key) -> dict[str, Any] | None:
        """The newest known version."""
        return self.jobs.get(key)

    def put(self, job: dict[str, Any]) -> None:
        """Keep it, unless a newer version of the same object is known.

        The watch may deliver a version older than the answer to our last write; a decision made
        from that one would be refused. Versions of one object grow in etcd, and Kubernetes
        guarantees since 1.35 that they may be compared as numbers.
        """
        key = key_of(job)
        known = self.jobs.get(key)
        same = known is not None and known["metadata"]["uid"] == job["metadata"]["uid"]
        if known is None or not same or _version(job) >= _version(known):
            self.jobs[key] = job

    def remove(self, job: dict[str, Any]) -> None:
        """Forget this very object; a namesake made since then stays."""
        key = key_of(job)
        known = self.jobs.get(key)
        if known is not None and known["metadata"]["uid"] == job["metadata"]["uid"]:
            del self.jobs[key]

    def phases(self) -> Counter[str]:
        """How many jobs are in each phase."""
        return Counter(
            (job.get("status") or {}).get("phase") or "New" for job in self.jobs.values()
        )


def key_of(job: dict[str, Any]) -> Key:
    """Namespace and name."""
    return job["metadata"]["namespace"], job["metadata"]["name"]


def _version(job: dict[str, Any]) -> int:
    return int(job["metadata"]["resourceVersion"])
