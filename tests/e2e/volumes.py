"""Volumes for tests that need more than a pod's own."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from cluster.namespace import build_claim, build_volume
from e2e.kube import Namespace

from trainyard_operator.overlay import merge


@contextlib.contextmanager
def shared_claim_of(namespace: Namespace, name: str, folder: Path) -> Iterator[str]:
    """A claim over a folder of this machine, which both nodes may write."""
    folder.chmod(0o777)
    volume = build_volume(namespace.name, name, folder)
    for item in (volume, build_claim(namespace.name, name)):
        shared = merge(item, {"spec": {"accessModes": ["ReadWriteMany"]}})
        namespace.kubectl("apply", "-f", "-", stdin=json.dumps(shared))
    namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", f"pvc/{name}")
    yield name
    namespace.kubectl("delete", f"pv/{volume['metadata']['name']}", "--wait=false")
