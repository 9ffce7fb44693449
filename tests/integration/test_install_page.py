"""The commands of docs/install.md, on an API server, in a copy of what they read."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cluster.build import component, helm
from cluster.places import CHECKOUT
from integration.api_server import CORE, ApiServer
from integration.conftest import running_control_plane
from integration.helm_chart import Helm, environment_of, of_kind

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRD = f"{CRDS}/trainingjobs.trainyard.dev"
OPERATOR = "/apis/apps/v1/namespaces/{}/deployments/trainyard-operator"
IMAGE = "registry.example/trainyard-operator:0.1.0"


@dataclass(frozen=True)
class Shell:
    """In the copy, with helm and kubectl at hand."""

    folder: Path
    environment: dict[str, str]

    def run(self, text: str) -> None:
        done = subprocess.run(
            ["bash", "-euc", text],
            cwd=self.folder,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def make_shell(folder: Path, kubeconfig: Path) -> Shell:
    for name in ("charts", "manifests"):
        shutil.copytree(CHECKOUT / name, folder / name)
    programs = f"{helm().parent}:{component('kubectl').parent}:{os.environ['PATH']}"
    homes = {f"HELM_{kind}_HOME": str(folder / "helm") for kind in ("CACHE", "CONFIG", "DATA")}
    return Shell(folder, os.environ | homes | {"PATH": programs, "KUBECONFIG": str(kubeconfig)})


def block(heading: str, language: str = "", index: int = 0) -> str:
    """One of the blocks below a heading."""
    page = (CHECKOUT / "docs" / "install.md").read_text()
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)[index]


def image_of(api: ApiServer, namespace: str) -> str:
    deployment = api.must("GET", OPERATOR.format(namespace))
    return deployment["spec"]["template"]["spec"]["containers"][0]["image"]


def test_commands_work_one_after_the_other(tmp_path: Path) -> None:
    with running_control_plane() as api:
        shell = make_shell(tmp_path / "checkout", api.plane.kubeconfig("admin"))
        shell.run(block("With kubectl"))
        assert image_of(api, "trainyard-system") == IMAGE
        uid = api.must("GET", CRD)["metadata"]["uid"]
        shell.run(block("With Helm").rstrip() + " --take-ownership")
        assert api.must("GET", CRD)["metadata"]["uid"] == uid
        api.must("POST", f"{CORE}/namespaces", {"metadata": {"name": "research"}})
        shell.run(block("For one namespace"))
        assert api.send("GET", OPERATOR.format("research")).ok
        shell.run(block("Uninstall"))
        assert not api.send("GET", OPERATOR.format("trainyard-system")).ok
        assert api.must("GET", CRD)["metadata"]["uid"] == uid
        shell.run(block("Uninstall", index=1))
        for kind in ("trainingjobs", "trainingsweeps"):
            assert not api.send("GET", f"{CRDS}/{kind}.trainyard.dev").ok


def test_values_worth_setting_are_values(tmp_path: Path) -> None:
    values = yaml.safe_load(block("With Helm", "yaml"))
    deployment = of_kind(Helm(tmp_path).render(**values), "Deployment")
    uri = values["storage"]["uri"]
    assert environment_of(deployment)["TRAINYARD_OPERATOR_STORAGE_URI"] == uri


@pytest.mark.parametrize("target", ["operator", "trainer"])
def test_image_is_a_target_of_the_dockerfile(target: str) -> None:
    assert f"--target {target} " in block("Images")
    assert f" AS {target}\n" in (CHECKOUT / "Dockerfile").read_text()


def test_kustomization_is_all_of_crd_and_install(tmp_path: Path) -> None:
    manifests = CHECKOUT / "manifests"
    shell = make_shell(tmp_path / "checkout", tmp_path / "none")
    shell.run("kubectl kustomize manifests > built.yaml")
    built = yaml.safe_load_all((tmp_path / "checkout" / "built.yaml").read_text())
    files = [*sorted(manifests.glob("crd/*.yaml")), *sorted(manifests.glob("install/*.yaml"))]
    given = [item for path in files for item in yaml.safe_load_all(path.read_text()) if item]
    names = [sorted((o["kind"], o["metadata"]["name"]) for o in found) for found in (built, given)]
    assert names[0] == names[1]
