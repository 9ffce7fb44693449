"""A namespace where training pods can run: dependencies, source and S3 credentials are in it.

from cluster.namespace import prepare_namespace

prepare_namespace("research")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.build import component
from cluster.console import ClusterError, say
from cluster.fullcluster import kubeconfig, s3_access
from cluster.mounts import read_only_view
from cluster.places import CHECKOUT
from cluster.process import run
from cluster.s3 import S3Access
from cluster.site_packages import site_packages

SITE = "trainyard-site"
SOURCE = "trainyard-src"
SECRET = "s3-credentials"


def prepare_namespace(name: str) -> None:
    """Makes the namespace, or completes it, and waits until its claims are bound.

    It is `restricted` for Pod Security and holds the claims `trainyard-site` and `trainyard-src`
    and the Secret `s3-credentials`, for the pods of `pod-template.yaml`.
    """
    folders = {SITE: read_only_view(site_packages()), SOURCE: read_only_view(CHECKOUT)}
    if any(_is_of_other_checkout(name, claim, folder) for claim, folder in folders.items()):
        _make_way(name)
    for claim in folders:
        _remove_unbound_volume(name, claim)
    objects = [build_namespace(name), build_secret(name, s3_access())]
    for claim, folder in folders.items():
        objects += [build_volume(name, claim, folder), build_claim(name, claim)]
    kubectl("apply", "--filename=-", stdin=json.dumps(_build_list(objects)))
    bound = "--for=jsonpath={.status.phase}=Bound"
    kubectl("wait", "--namespace", name, bound, "--timeout=30s", *(f"pvc/{c}" for c in folders))


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """kubectl as the cluster's administrator."""
    return run(
        [component("kubectl"), f"--kubeconfig={kubeconfig()}", *arguments],
        stdin=stdin,
    )


def build_namespace(name: str) -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def build_secret(namespace: str, access: S3Access) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": namespace},
        "stringData": {
            "AWS_ACCESS_KEY_ID": access.access_key_id,
            "AWS_SECRET_ACCESS_KEY": access.secret_access_key,
        },
    }


def build_volume(namespace: str, claim: str, folder: Path) -> dict[str, Any]:
    """A volume that any node has, as all nodes are one machine; for one claim alone."""
    any_node = {"key": "kubernetes.io/hostname", "operator": "Exists"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _volume_name(namespace, claim)},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "capacity": {"storage": "10Gi"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": claim,
                "namespace": namespace,
            },
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [any_node]}]}},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }


def build_claim(namespace: str, claim: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "10Gi"}},
            "storageClassName": "",
            "volumeName": _volume_name(namespace, claim),
        },
    }


def _volume_name(namespace: str, claim: str) -> str:
    return f"{claim}-{namespace}"


def _build_list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _is_of_other_checkout(namespace: str, claim: str, folder: Path) -> bool:
    volume = f"pv/{_volume_name(namespace, claim)}"
    found = kubectl("get", volume, "--ignore-not-found", "--output=jsonpath={.spec.local.path}")
    return found not in ("", str(folder))


def _make_way(namespace: str) -> None:
    """Deletes a namespace of another checkout, since a volume's folder cannot be changed.

    Raises ClusterError for `default`, which cannot be deleted.
    """
    if namespace == "default":
        raise ClusterError("`default` uses another checkout: start anew with `make cluster-down`.")
    say(f"namespace {namespace} used another checkout: made anew")
    kubectl("delete", f"namespace/{namespace}", "--ignore-not-found", "--timeout=120s")
    volumes = (f"pv/{_volume_name(namespace, claim)}" for claim in (SITE, SOURCE))
    kubectl("delete", *volumes, "--ignore-not-found", "--timeout=60s")


def _remove_unbound_volume(namespace: str, claim: str) -> None:
    """A volume whose namespace was deleted is Released, and never binds again."""
    volume = f"pv/{_volume_name(namespace, claim)}"
    phase = kubectl("get", volume, "--ignore-not-found", "--output=jsonpath={.status.phase}")
    if phase not in ("", "Bound"):
        kubectl("delete", volume)
