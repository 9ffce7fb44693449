"""Helm as a test calls it: a home of its own, and failures with their text."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cluster.build import helm
from cluster.places import CHECKOUT

CHART = CHECKOUT / "charts" / "trainyard"


@dataclass(frozen=True)
class Helm:
    """With its caches in a folder, and a cluster if it has a kubeconfig."""

    home: Path
    kubeconfig: Path | None = None

    def call(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Whatever becomes of it."""
        environment = {f"HELM_{kind}_HOME": str(self.home) for kind in ("CACHE", "CONFIG", "DATA")}
        environment["KUBECONFIG"] = str(self.kubeconfig or self.home / "none")
        return subprocess.run(
            [str(part) for part in (helm(), *arguments)],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | environment,
        )

    def must(self, *arguments: str | Path) -> str:
        """What it printed. Raises AssertionError with its sentence."""
        result = self.call(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def render(self, chart: Path = CHART, **values: Any) -> list[dict[str, Any]]:
        """The objects of release `trainyard` in namespace `trainyard-system`."""
        options = ["--namespace=trainyard-system", *as_options(values)]
        text = self.must("template", "trainyard", chart, *options)
        return [item for item in yaml.safe_load_all(text) if item]

    def refusal(self, **values: Any) -> str:
        """Why it renders nothing."""
        result = self.call("template", "trainyard", CHART, *as_options(values))
        assert result.returncode != 0, "rendered"
        return result.stderr


def as_options(values: dict[str, Any]) -> list[str]:
    """For `helm install` and the like."""
    return [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The only one of it."""
    (found,) = (item for item in objects if item["kind"] == kind)
    return found


def environment_of(deployment: dict[str, Any]) -> dict[str, str]:
    """Of the operator's container, as far as it is known before there is a pod."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}
