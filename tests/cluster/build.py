"""The Go binaries, built once into the cache from the Go module proxy.

    python3 tests/cluster/cluster.py build

Kubernetes is one program that becomes the component it is called as (`kube/main.go`): cold, with
two cores, its build takes about six minutes, CoreDNS and versitygw two more each. What the cluster
does not need is built when something asks for it: Helm (four minutes), KWOK and Kubeflow's
training-operator (three each).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.console import ClusterError, step
from cluster.mounts import remove_tree
from cluster.places import (
    COREDNS_VERSION,
    HELM_VERSION,
    KUBEFLOW_VERSION,
    KUBERNETES_VERSION,
    KWOK_VERSION,
    PAUSE_VERSION,
    VERSITYGW_VERSION,
    cache_directory,
)
from cluster.process import Command, kill_processes_of, run

COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
)
# Programs of this folder, and modules of others.
_SOURCES = {name: Path(__file__).parent / name for name in ("kube", "pause")}
_MODULES = {
    "coredns": f"github.com/coredns/coredns@{COREDNS_VERSION}",
    "versitygw": f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW_VERSION}",
    "helm": f"helm.sh/helm/v3/cmd/helm@{HELM_VERSION}",
    "kwok": f"sigs.k8s.io/kwok/cmd/kwok@{KWOK_VERSION}",
    "training-operator.v1": (
        f"github.com/kubeflow/training-operator/cmd/training-operator.v1@{KUBEFLOW_VERSION}"
    ),
}
_VERSIONS = {
    "kube": KUBERNETES_VERSION,
    "pause": PAUSE_VERSION,
    "coredns": COREDNS_VERSION,
    "versitygw": VERSITYGW_VERSION,
    "helm": HELM_VERSION,
    "kwok": KWOK_VERSION,
    "training-operator.v1": KUBEFLOW_VERSION,
}
_CLUSTER = ("kube", "pause", "coredns", "versitygw")


def component(name: str) -> Path:
    """A Kubernetes component, etcd or kubectl, built if need be.

    Where KUBEBUILDER_ASSETS names a folder that has it, that one is taken.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / name).is_file():
        return Path(assets) / name
    return program("kube").parent / name


def program(name: str) -> Path:
    """The binary of that name, `kube` or another of `_VERSIONS`, built if the cache lacks it."""
    return _directory(name) / name if is_built(name) else _build_once(name)


def helm() -> Path:
    """Helm: the one on PATH where its major version is ours, else `program("helm")`."""
    found = shutil.which("helm")
    major = HELM_VERSION.partition(".")[0]
    if found and run([found, "version", "--short"], check=False).startswith(f"{major}."):
        return Path(found)
    return program("helm")


def build_all() -> None:
    """Everything that the full cluster needs."""
    for name in _CLUSTER:
        program(name)


def is_built(name: str) -> bool:
    return (_directory(name) / name).is_file()


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The cache's folder `name`, made by `make(folder)` if it is not there.

    Made under another name and renamed at the end: a killed run leaves nothing that looks whole.
    """
    folder = cache_directory() / name
    if folder.is_dir():
        return folder
    with _lock(name):
        if not folder.is_dir():
            partial = folder.with_name(f"{name}.partial")
            # What a killed run started may still write there.
            kill_processes_of(partial)
            remove_tree(partial)
            partial.mkdir(parents=True)
            make(partial)
            partial.rename(folder)
    return folder


def _directory(name: str) -> Path:
    return cache_directory() / f"{name}-{_VERSIONS[name]}"


def _build_once(name: str) -> Path:
    if shutil.which("go") is None:
        raise ClusterError(
            f"{_directory(name) / name} is not built, and there is no `go` to build it: install "
            "Go 1.24 or newer" + (", or set KUBEBUILDER_ASSETS" if name == "kube" else "") + "."
        )

    def make(folder: Path) -> None:
        with step(f"build {name} {_VERSIONS[name]}"):
            _build(name, folder)

    return cached(_directory(name).name, make) / name


def _build(name: str, folder: Path) -> None:
    # A Go cache of its own: Kubernetes leaves 3.5 GB in it, and it goes when all is built. What
    # the cluster does not need has another, as it may be built while that one goes.
    go = cache_directory() / ("go" if name in _CLUSTER else f"go-{name}")
    flags = f"{os.environ.get('GOFLAGS', '')} -buildvcs=false -modcacherw".strip()
    environment = {"GOCACHE": str(go / "build"), "GOMODCACHE": str(go / "mod"), "GOFLAGS": flags}
    options = ["-trimpath", "-ldflags", "-s -w" + _version_flags(name)]
    if name in _SOURCES:
        # Static, as the pause image holds nothing else.
        environment["CGO_ENABLED"] = "0"
        command: Command = ["nice", "-n19", "go", "build", *options, "-o", folder / name, "."]
        run(command, environment=environment, directory=_SOURCES[name])
    else:
        environment["GOBIN"] = str(folder)
        command = ["nice", "-n19", "go", "install", *options, _MODULES[name]]
        run(command, environment=environment)
    if name == "kube":
        for each in COMPONENTS:
            (folder / each).symlink_to(name)
    if name == "training-operator.v1":
        _keep_crds(go / "mod", folder)
    if name not in _CLUSTER or all(is_built(other) for other in _CLUSTER if other != name):
        shutil.rmtree(go, ignore_errors=True)


def _keep_crds(modules: Path, folder: Path) -> None:
    """The module's resources, without which its program does nothing."""
    module = modules / "github.com" / "kubeflow" / f"training-operator@{KUBEFLOW_VERSION}"
    shutil.copytree(module / "manifests" / "base" / "crds", folder / "crds")


def _version_flags(name: str) -> str:
    """What `go build` has to be told for the binary to know its own version, if it asks."""
    major, minor = KUBERNETES_VERSION.lstrip("v").split(".")[:2]
    values = {}
    if name == "kube":
        package = "k8s.io/component-base/version"
        versions = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
        values = {f"{package}.{key}": value for key, value in versions.items()}
    elif name == "helm":
        package = "helm.sh/helm/v3"
        values = {f"{package}/internal/version.version": HELM_VERSION}
        # The Kubernetes that `helm template` renders for; else it is 1.20.
        for each in ("chartutil", "lint/rules"):
            values[f"{package}/pkg/{each}.k8sVersionMajor"] = major
            values[f"{package}/pkg/{each}.k8sVersionMinor"] = minor
    return "".join(f" -X {key}={value}" for key, value in values.items())


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """One process at a time makes what is called so; the others wait for it."""
    folder = cache_directory() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
