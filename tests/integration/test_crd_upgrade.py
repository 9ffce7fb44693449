"""Jobs that an older version stored, under the CRD of this one."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.process import wait_until
from integration.api_server import CORE, MERGE_PATCH, ApiServer, Namespace
from integration.conftest import (
    install_crd,
    install_rights,
    make_operator,
    running_control_plane,
    write_kubeconfig,
)
from patience import WAIT_SECONDS

from trainyard_operator.api import JobSpec, TrainingJob

WRITTEN = Path(__file__).with_name("written")
VERSION = "0.1.0"


def jobs() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((WRITTEN / f"jobs-{VERSION}.yaml").read_text()))


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """With jobs stored under the older CRD, which has been replaced since."""
    with running_control_plane() as api:
        install_rights(api)
        api.apply_text((WRITTEN / f"crd-{VERSION}.yaml").read_text())
        api.must("POST", f"{CORE}/namespaces", {"metadata": {"name": "research"}})
        namespace = Namespace(api, "research")
        wait_until(lambda: api.send("GET", namespace.jobs).ok, "jobs are served", WAIT_SECONDS)
        for job in jobs():
            namespace.create(job)
        install_crd(api)
        yield api


@pytest.fixture
def namespace(api: ApiServer) -> Namespace:
    return Namespace(api, "research")


def written_keys(value: Any, path: str = "") -> set[str]:
    if not isinstance(value, dict):
        return {path}
    return {key for name, child in value.items() for key in written_keys(child, f"{path}.{name}")}


def test_fixtures_set_every_field_that_the_older_crd_had() -> None:
    crd = yaml.safe_load((WRITTEN / f"crd-{VERSION}.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields = {name for job in jobs() for name in job["spec"]}
    assert fields == set(schema["properties"])


@pytest.mark.parametrize("job", jobs(), ids=lambda job: job["metadata"]["name"])
def test_stored_job_keeps_every_field_and_this_version_understands_it(
    namespace: Namespace, job: dict[str, Any]
) -> None:
    stored = namespace.job(job["metadata"]["name"])
    spec = copy.deepcopy(stored["spec"])
    assert written_keys(job["spec"]) <= written_keys(spec)
    found = TrainingJob.model_validate({"metadata": stored["metadata"], "spec": spec})
    assert found.spec == JobSpec.model_validate(spec)


@pytest.mark.parametrize("job", jobs(), ids=lambda job: job["metadata"]["name"])
def test_stored_job_can_be_changed(namespace: Namespace, job: dict[str, Any]) -> None:
    name = job["metadata"]["name"]
    namespace.touch(name)
    namespace.edit(name, {"runPolicy": {"maxRestarts": 7}})
    path = f"{namespace.jobs}/{name}/status"
    namespace.api.must("PATCH", path, {"status": {"attempt": 1}}, headers=MERGE_PATCH)


def test_operator_of_this_version_goes_on_with_a_stored_job(
    namespace: Namespace, tmp_path: Path
) -> None:
    namespace.edit("recipe", {"scheduling": None, "elastic": None, "tensorBoard": None})
    operator = make_operator(write_kubeconfig(namespace.api, tmp_path / "kubeconfig"), tmp_path)
    operator.start()
    try:
        names = {"recipe-master-0", "recipe-worker-0"}
        namespace.wait(lambda: names <= set(namespace.pods()), "its gang")
    finally:
        operator.kill()


def test_older_crd_takes_what_this_one_took(api: ApiServer, namespace: Namespace) -> None:
    """`helm rollback` puts it back."""
    api.apply_text((WRITTEN / f"crd-{VERSION}.yaml").read_text())
    assert namespace.job("program")["spec"]["command"] == ["torchrun", "train.py"]
    namespace.touch("program")
