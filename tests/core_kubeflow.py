"""The cluster in memory with Kubeflow's training-operator in it, which makes the pods."""

from dataclasses import dataclass, field, replace
from typing import Any

from core_cluster import GRACE, Cluster

from trainyard_operator.contract import Label
from trainyard_operator.decision import Action, Create, DeletePyTorchJob
from trainyard_operator.desired import node_name
from trainyard_operator.observed import Observed, PodRecord, PyTorchJobRecord


@dataclass
class KubeflowCluster(Cluster):
    """The same, with PyTorchJobs."""

    pytorchjob: PyTorchJobRecord | None = None
    templates: list[dict[str, Any]] = field(default_factory=list)
    """Of each node of the PyTorchJob."""

    def observe(self, pods: tuple[PodRecord, ...]) -> Observed:
        return replace(super().observe(pods), pytorchjob=self.pytorchjob)

    def execute(self, actions: tuple[Action, ...]) -> None:
        """Also what concerns a PyTorchJob."""
        super().execute(actions)
        for action in actions:
            match action:
                case Create(manifest) if manifest["kind"] == "PyTorchJob":
                    self._make(manifest)
                case DeletePyTorchJob(uid=uid) if self.pytorchjob and self.pytorchjob.uid == uid:
                    self._drop()

    def others_pass(self) -> None:
        """Kubeflow makes the pods that its PyTorchJob lacks, until one of them has failed."""
        if self.pytorchjob is None:
            return
        pods = self.pods.values()
        is_done = bool(pods) and all(pod.phase == "Succeeded" for pod in pods)
        if is_done or any(pod.phase == "Failed" for pod in pods):
            self.pytorchjob = replace(self.pytorchjob, has_ended=True)
        if not self.pytorchjob.has_ended:
            for index, template in enumerate(self.templates):
                self._make_pod(index, template)

    def delete_job(self) -> None:
        """The garbage collector deletes the PyTorchJob, too."""
        super().delete_job()
        self.pytorchjob = None

    def _make(self, manifest: dict[str, Any]) -> None:
        if self.pytorchjob is None:
            self.serial += 1
            name = manifest["metadata"]["name"]
            self.pytorchjob = PyTorchJobRecord(name=name, uid=f"pytorchjob-{self.serial}")
            replicas = manifest["spec"]["pytorchReplicaSpecs"].values()
            self.templates = [r["template"] for r in replicas for _ in range(r["replicas"])]

    def _drop(self) -> None:
        self.pytorchjob = None
        for pod in list(self.pods.values()):
            self.delete(pod.name, pod.uid, GRACE)

    def _make_pod(self, index: int, template: dict[str, Any]) -> None:
        metadata = template["metadata"]
        name = node_name(self.job.metadata.name, index)
        labels = {**metadata["labels"], Label.NODE_INDEX: str(index)}
        self._create({**template, "metadata": {**metadata, "name": name, "labels": labels}})
