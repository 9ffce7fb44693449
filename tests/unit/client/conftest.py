"""Every test has a state directory and a working directory of its own, and no cluster."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from trainyard import cli

HEADER = {"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob"}


@dataclass
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    for name in ("KUBERNETES_SERVICE_HOST", "FORCE_COLOR", "TRAINYARD_OUTPUT"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path


@pytest.fixture
def trainyard(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def write_job() -> Callable[..., Path]:
    return _write_job


def _write_job(path: Path, program: str = "", nodes: int = 1, **spec: object) -> Path:
    """A job's file; `program` is Python code that stands in for a training program."""
    body = {"command": [sys.executable, "-c", program]} if program else {}
    manifest = HEADER | {
        "metadata": {"name": path.stem},
        "spec": body | {"nodes": nodes} | spec,
    }
    path.write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    return path
