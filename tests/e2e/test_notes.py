"""The sample job that Helm shows after an install."""

import re
from pathlib import Path

import yaml
from demo.jobs import cluster_template
from e2e.conftest import Cluster
from e2e.kube import Namespace
from integration.helm_chart import CHART, Helm


def test_sample_of_the_notes_adds_its_ranks(
    cluster: Cluster, namespace: Namespace, tmp_path: Path
) -> None:
    helm = Helm(tmp_path, Path(cluster.environment["KUBECONFIG"]))
    # The CRD is there already, from elsewhere.
    options = ["--dry-run=client", "--set=crds.enabled=false"]
    shown = helm.must("install", "notes", CHART, *options)
    (text,) = re.findall(r"<<'EOF'\n(.*?)\nEOF\n", shown, re.DOTALL)
    job = yaml.safe_load(text)
    del job["metadata"]["namespace"]
    if cluster.is_own:
        job["spec"]["template"] = cluster_template()
    namespace.apply(job)
    namespace.wait_for_phase("hello", "Succeeded")
    assert "rank 0 of 2: the sum is 1" in namespace.kubectl("logs", "hello-master-0")
