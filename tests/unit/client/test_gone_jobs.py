"""What a cluster's job that is gone, finished or without stored logs makes the commands say."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainyard.errors import NotFound
from trainyard_operator.layout import log_prefix, run_prefix
from trainyard_trainer.storage import open_storage

STORAGE = {"uri": "s3://lab/runs", "endpoint": "http://s3.example:9000"}
READ = "--storage s3://lab/runs --endpoint http://s3.example:9000 -n reader"


class FakeCluster:
    """One job of one namespace; its pods are gone."""

    namespace = "reader"

    def __init__(self, job: dict[str, Any] | None = None) -> None:
        self.job, self.deleted = job, False

    def get_job(self, name: str) -> dict[str, Any]:
        if self.job is None:
            raise NotFound(f"there is no job '{name}' in namespace 'reader'", "trainyard get -A")
        return self.job

    def apply_job(self, manifest: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        old = self.job or {"metadata": {"uid": "u", "generation": 0}, "spec": None}
        generation = old["metadata"]["generation"] + (old["spec"] != manifest["spec"])
        return {**old, **manifest, "metadata": manifest["metadata"] | {"generation": generation}}

    def delete_job(self, name: str) -> None:
        self.job, self.deleted = None, True

    def list_pods(self, selector: str) -> list[dict[str, Any]]:
        return []


@pytest.fixture
def use_cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeCluster], FakeCluster]:
    def use(cluster: FakeCluster) -> FakeCluster:
        monkeypatch.setattr("trainyard.cluster.Cluster", lambda *_: cluster)
        monkeypatch.setattr("trainyard.cluster.is_configured", lambda *_: True)
        return cluster

    return use


def a_job(spec: dict[str, Any], **status: Any) -> dict[str, Any]:
    metadata = {"name": "digits", "namespace": "reader", "uid": "u", "generation": 1}
    return {"metadata": metadata, "spec": spec, "status": status}


@pytest.mark.parametrize("verb", ["fetch", "checkpoints", "logs"])
def test_a_job_that_is_gone_can_be_read_from_storage(trainyard, use_cluster, verb: str) -> None:
    use_cluster(FakeCluster())
    ran = trainyard(verb, "digits")
    assert (ran.code, ran.err) == (
        3,
        "error: there is no job 'digits' in namespace 'reader'\n"
        f"help: trainyard {verb} digits --storage URI --endpoint URL -n reader\n",
    )


def test_delete_says_how_to_read_what_stays(trainyard, use_cluster) -> None:
    cluster = use_cluster(FakeCluster(a_job({"storage": STORAGE}, phase="Succeeded")))
    ran = trainyard("delete", "digits", "-y")
    assert (ran.code, ran.out, cluster.deleted) == (0, "digits\n", True)
    assert ran.err == (
        f"what digits stored stays at s3://lab/runs; read it with:\ntrainyard fetch digits {READ}\n"
    )


def test_a_failed_job_is_not_submitted_unchanged(
    trainyard, use_cluster, write_job: Callable[..., Path], place: Path
) -> None:
    path = write_job(place / "digits.yaml", "print(1)")
    spec = yaml.safe_load(path.read_text())["spec"]
    failure = {
        "attempt": 1,
        "cause": "ImagePull",
        "message": "Pod digits-master-0 cannot pull 'x'.",
    }
    job = a_job(spec, phase="Failed", failure=failure)
    cluster = use_cluster(FakeCluster(job))
    ran = trainyard("submit", path, "--detach")
    assert (ran.code, ran.out) == (5, "")
    assert ran.err == (
        "error: 'digits' has already failed, and the file changes nothing of it: correct the file\n"
        "help: trainyard submit ... --replace, to run it again as it is\n"
    )
    assert trainyard("submit", path, "--detach", "--nodes", 2).out == "digits\n"
    assert not cluster.deleted
    assert trainyard("submit", path, "--detach", "--replace").out == "digits\n"
    assert cluster.deleted


def test_the_output_of_a_command_is_gone_with_its_pods(trainyard, use_cluster) -> None:
    use_cluster(FakeCluster(a_job({"command": ["train"]}, phase="Succeeded")))
    ran = trainyard("logs", "digits")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == (
        "digits runs a command without spec.storage, where its output would be kept: it was in the "
        "pods, and these are gone\n"
    )


def test_a_profile_that_is_not_there_is_named(trainyard, monkeypatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    ran = trainyard("fetch", "digits", "--storage", "s3://lab/runs", "--endpoint", "http://[::1]:9")
    assert (ran.code, ran.err) == (
        4,
        "error: AWS_PROFILE: there is no profile 'no-such-profile'; correct it, or unset it.\n",
    )


def test_a_file_is_looked_for_in_the_contexts_namespace(
    trainyard, use_cluster, write_job: Callable[..., Path], place: Path
) -> None:
    use_cluster(FakeCluster())
    uri = (place / "bucket").as_uri()
    base, log = open_storage(uri), f"{log_prefix(1, 0)}/000000.log.gz"
    path = write_job(place / "digits.yaml", "print(1)", storage={"uri": uri})
    for namespace in ("default", "reader"):  # The context's wins as soon as it is there.
        prefix = run_prefix(namespace, "digits", "u")
        base.write(f"{prefix}/run.json", b"{}")
        line = f"2026-03-01T12:00:00.000000000Z {namespace}\n"
        base.write(f"{prefix}/{log}", gzip.compress(line.encode()))
        assert trainyard("logs", "digits", "--file", path).out == f"{namespace}\n"
