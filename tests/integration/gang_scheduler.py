"""A small scheduler that places whole gangs only, in the place of Volcano's, the coscheduling
plugin's and Kueue's: it reads what they read, and nothing else of a job."""

from dataclasses import dataclass
from typing import Any

from integration.api_server import MERGE_PATCH, ApiServer, Namespace

KINDS = {
    "scheduling.volcano.sh/v1beta1": {
        "minMember": "integer",
        "queue": "string",
        "priorityClassName": "string",
    },
    "scheduling.x-k8s.io/v1alpha1": {"minMember": "integer", "scheduleTimeoutSeconds": "integer"},
}
"""Fields of each PodGroup's spec that Trainyard sets, as their projects define them."""
VOLCANO, COSCHEDULING = KINDS
COUNT = "kueue.x-k8s.io/pod-group-total-count"


def build_crd(version: str) -> dict[str, Any]:
    """A CRD of PodGroups with as much of a schema as is used."""
    group, _, name = version.partition("/")
    fields = {field: {"type": type_} for field, type_ in KINDS[version].items()}
    spec = {"type": "object", "properties": fields}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"podgroups.{group}",
            # Else only Kubernetes' own people may use a group that ends with k8s.io.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "PodGroup", "plural": "podgroups", "singular": "podgroup"},
            "versions": [{"name": name, "served": True, "storage": True, "schema": schema}],
        },
    }


@dataclass
class GangScheduler:
    """Of one namespace."""

    namespace: Namespace

    def place(self, free: int) -> None:
        """Start the pods of every gang that is complete and for all of which there is room."""
        gangs: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for pod in self.namespace.pods().values():
            if not pod["spec"].get("nodeName"):
                gangs.setdefault(self.gang_of(pod), []).append(pod)
        for (_, least), pods in gangs.items():
            if least <= len(pods) <= free:
                free -= len(pods)
                for pod in pods:
                    self.start(pod)

    def gang_of(self, pod: dict[str, Any]) -> tuple[str, int]:
        """The name of a pod's gang, and how many pods make it complete."""
        labels, notes = (pod["metadata"].get(part, {}) for part in ("labels", "annotations"))
        if name := labels.get("kueue.x-k8s.io/pod-group-name"):
            assert labels["kueue.x-k8s.io/queue-name"]
            return name, int(notes[COUNT])
        if name := notes.get("scheduling.k8s.io/group-name"):
            assert pod["spec"]["schedulerName"] == "volcano"
            return name, self.pod_group(VOLCANO, name)["minMember"]
        name = labels["scheduling.x-k8s.io/pod-group"]
        assert pod["spec"]["schedulerName"] == "scheduler-plugins-scheduler"
        return name, self.pod_group(COSCHEDULING, name)["minMember"]

    def pod_group(self, version: str, name: str) -> dict[str, Any]:
        """The spec of a PodGroup."""
        path = f"/apis/{version}/namespaces/{self.namespace.name}/podgroups/{name}"
        return dict(self.namespace.api.must("GET", path)["spec"])

    def start(self, pod: dict[str, Any]) -> None:
        """Open its gates, bind it, run it."""
        name = pod["metadata"]["name"]
        if pod["spec"].get("schedulingGates"):
            path = f"{self.namespace.core}/pods/{name}"
            change = {"spec": {"schedulingGates": None}}
            self.namespace.api.must("PATCH", path, change, headers=MERGE_PATCH)
        self.namespace.start_pod(name)


def install_crds(api: ApiServer) -> None:
    """Both kinds of PodGroup."""
    for version in KINDS:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        api.must("POST", path, build_crd(version))


def are_crds_served(api: ApiServer) -> bool:
    """Whether the API server knows both."""
    return all(api.send("GET", f"/apis/{version}/podgroups").ok for version in KINDS)
