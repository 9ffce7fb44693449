"""Jobs and sweeps that an older version stored, under the CRDs of this one."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.process import wait_until
from integration.api_server import CORE, MERGE_PATCH, ApiServer, Namespace
from integration.conftest import (
    Operator,
    install_crd,
    install_rights,
    make_operator,
    running_control_plane,
    write_kubeconfig,
)
from patience import WAIT_SECONDS

from trainyard_operator.api import TrainingJob
from trainyard_operator.sweep.api import TrainingSweep

WRITTEN = Path(__file__).with_name("written")
VERSION = "0.1.0"
MODELS = {"jobs": TrainingJob, "sweeps": TrainingSweep}
REFUSED_SINCE = "refused"
"""The sweep that the API server of this version would not take."""
TOLD = (
    "earlyStopping judges by the metric that chooses the best checkpoint; leave "
    "template.spec.checkpoint.keepBest out, and it is the objective."
)


def older_crd(kind: str) -> str:
    return (WRITTEN / f"{kind}-crd-{VERSION}.yaml").read_text()


def stored_as(kind: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((WRITTEN / f"{kind}-{VERSION}.yaml").read_text()))


def stored() -> list[Any]:
    """(kind, manifest) of each, as parameters of a test."""
    return [
        pytest.param(kind, manifest, id=f"{kind}/{manifest['metadata']['name']}")
        for kind in MODELS
        for manifest in stored_as(kind)
    ]


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """With jobs and sweeps stored under the older CRDs, which have been replaced since."""
    with running_control_plane() as api:
        install_rights(api)
        api.must("POST", f"{CORE}/namespaces", {"metadata": {"name": "research"}})
        for kind in MODELS:
            api.apply_text(older_crd(kind))
            objects = objects_of(api, kind)
            wait_until(lambda at=objects.jobs: api.send("GET", at).ok, "it is served", WAIT_SECONDS)
            for manifest in stored_as(kind):
                objects.create(manifest)
        install_crd(api)
        yield api


def objects_of(api: ApiServer, kind: str) -> Namespace:
    return Namespace(api, "research", f"training{kind}")


@pytest.fixture
def namespace(api: ApiServer) -> Namespace:
    return objects_of(api, "jobs")


@pytest.fixture
def operator(api: ApiServer, tmp_path: Path) -> Iterator[Operator]:
    """Of this version."""
    operator = make_operator(write_kubeconfig(api, tmp_path / "kubeconfig"), tmp_path)
    operator.start()
    yield operator
    operator.kill()


def written_keys(value: Any, path: str = "") -> set[str]:
    if not isinstance(value, dict):
        return {path}
    return {key for name, child in value.items() for key in written_keys(child, f"{path}.{name}")}


@pytest.mark.parametrize("kind", MODELS)
def test_fixtures_set_every_field_that_the_older_crd_had(kind: str) -> None:
    crd = yaml.safe_load(older_crd(kind))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields = {name for manifest in stored_as(kind) for name in manifest["spec"]}
    assert fields == set(schema["properties"])


@pytest.mark.parametrize(("kind", "manifest"), stored())
def test_what_is_stored_keeps_every_field_and_this_version_understands_it(
    api: ApiServer, kind: str, manifest: dict[str, Any]
) -> None:
    name = manifest["metadata"]["name"]
    found = objects_of(api, kind).job(name)
    spec = copy.deepcopy(found["spec"])
    assert written_keys(manifest["spec"]) <= written_keys(spec)
    if name != REFUSED_SINCE:
        model = MODELS[kind]
        whole = model.model_validate({"metadata": found["metadata"], "spec": spec})
        assert whole.spec == type(whole.spec).model_validate(spec)


@pytest.mark.parametrize(("kind", "manifest"), stored())
def test_what_is_stored_can_be_labelled_and_told_of(
    api: ApiServer, kind: str, manifest: dict[str, Any]
) -> None:
    """Also where it breaks a rule that has come since."""
    name, objects = manifest["metadata"]["name"], objects_of(api, kind)
    objects.touch(name)
    path = f"{objects.jobs}/{name}/status"
    status = {"observedGeneration": 1}
    api.must("PATCH", path, {"status": status}, headers=MERGE_PATCH)


@pytest.mark.parametrize(("kind", "manifest"), stored())
def test_spec_of_what_is_stored_can_be_changed(
    api: ApiServer, kind: str, manifest: dict[str, Any]
) -> None:
    name, objects = manifest["metadata"]["name"], objects_of(api, kind)
    change = {"spec": {"runPolicy": {"ttlSecondsAfterFinished": 7}}}
    answer = api.send("PATCH", f"{objects.jobs}/{name}", change, headers=MERGE_PATCH)
    assert answer.ok == (name != REFUSED_SINCE)
    if name == REFUSED_SINCE:
        assert answer.json()["message"].endswith(TOLD)


def test_operator_of_this_version_goes_on_with_a_stored_job(
    namespace: Namespace, operator: Operator
) -> None:
    namespace.edit("recipe", {"scheduling": None, "elastic": None, "tensorBoard": None})
    names = {"recipe-master-0", "recipe-worker-0"}
    namespace.wait(lambda: names <= set(namespace.pods()), "its gang")


def test_operator_of_this_version_goes_on_with_stored_sweeps(
    namespace: Namespace, operator: Operator
) -> None:
    trials = {"search-0", "search-1", "crossed-0", "ablation-0"}
    namespace.wait(lambda: all(map(namespace.exists, trials)), f"trials {trials}")


def test_stored_sweep_that_breaks_a_new_rule_is_told_what_to_write(
    api: ApiServer, operator: Operator
) -> None:
    sweeps = objects_of(api, "sweeps")

    def is_told() -> bool:
        conditions = sweeps.status(REFUSED_SINCE).get("conditions", [])
        return any(condition["message"].endswith(TOLD) for condition in conditions)

    sweeps.wait(is_told, TOLD)
    template = {"spec": {"checkpoint": None}}
    sweeps.edit(REFUSED_SINCE, {"template": template})
    jobs = objects_of(api, "jobs")
    jobs.wait(lambda: jobs.exists(f"{REFUSED_SINCE}-0"), "a trial once it is mended")


def test_older_crds_take_what_these_took(api: ApiServer, namespace: Namespace) -> None:
    """`helm rollback` puts them back."""
    for kind in MODELS:
        api.apply_text(older_crd(kind))
    assert namespace.job("program")["spec"]["command"] == ["torchrun", "train.py"]
    for kind, manifest in ((param.values) for param in stored()):
        objects_of(api, kind).touch(manifest["metadata"]["name"])
