"""A sweep that runs to its end while operators are killed, and what it left."""

import json
import random
import time
from dataclasses import dataclass
from typing import Any

from demo.jobs import BUCKET, s3_client
from e2e.kube import Namespace

SYSTEM = ("-n", "trainyard-system")


@dataclass(frozen=True)
class SweepRun:
    """One sweep of one namespace."""

    namespace: Namespace
    name: str
    s3_endpoint: str

    def sweep(self) -> dict[str, Any]:
        """The TrainingSweep."""
        found: dict[str, Any] = json.loads(
            self.namespace.kubectl("get", "tsw", self.name, "-o", "json")
        )
        return found

    def status(self) -> dict[str, Any]:
        """Empty before the operator saw it."""
        status: dict[str, Any] = self.sweep().get("status") or {}
        return status

    def trials(self) -> dict[str, dict[str, Any]]:
        """Its TrainingJobs by name, without the one that writes the report."""
        selector = f"trainyard.dev/sweep={self.name},trainyard.dev/trial"
        found = json.loads(self.namespace.kubectl("get", "tj", "-l", selector, "-o", "json"))
        return {item["metadata"]["name"]: item for item in found["items"]}

    def results(self) -> dict[str, dict[str, Any]]:
        """Every result.json below the sweep's prefix, by the job that wrote it."""
        client, prefix = s3_client(self.s3_endpoint), self._prefix()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        found = [json.loads(self._read(key)) for key in keys if key.endswith("/result.json")]
        by_job = {result["job"]: result for result in found}
        assert len(by_job) == len(found), "a trial has two results"
        return by_job

    def report(self, file: str) -> str:
        """A file of its report."""
        return self._read(f"{self._prefix()}report/{file}").decode()

    def _prefix(self) -> str:
        uri: str = self.status()["reportUri"]
        return uri.removeprefix(f"s3://{BUCKET}/").removesuffix("report")

    def _read(self, key: str) -> bytes:
        found: bytes = s3_client(self.s3_endpoint).get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return found


@dataclass
class Killer:
    """Kills the operator's pod at random moments."""

    namespace: Namespace
    seed: int
    between: tuple[float, float] = (5, 20)
    """Seconds from one kill to the next, at least and at most."""
    kills: int = 0

    def __post_init__(self) -> None:
        self._chance, self._next = random.Random(self.seed), time.monotonic() + 2

    def may_kill(self) -> None:
        """If it is time."""
        if time.monotonic() < self._next:
            return
        self.namespace.kubectl(
            *SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/name=trainyard",
            "--force", "--grace-period=0", "--wait=false",
        )  # fmt: skip
        self.kills += 1
        self._next = time.monotonic() + self._chance.uniform(*self.between)


def run_to_its_end(run: SweepRun, killer: Killer, kills: int, seconds: float) -> dict[str, Any]:
    """Until its report is written; its status. The uid of each trial never changes on the way."""
    uids: dict[str, str] = {}
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        for name, trial in run.trials().items():
            uid = trial["metadata"]["uid"]
            assert uids.setdefault(name, uid) == uid, f"{name} was made twice"
        status = run.status()
        if status.get("phase") in {"Succeeded", "Failed"} and status.get("reportUri"):
            took = time.monotonic() - began
            print(run.namespace.kubectl("get", "tsw"))
            print(f"{killer.kills} operators were killed in {took:.0f} s")
            return status
        if killer.kills < kills:
            killer.may_kill()
        time.sleep(1)
    described = run.namespace.kubectl("describe", "tsw", run.name, check=False)
    raise AssertionError(f"{described}\n{run.namespace.explain(f'{run.name}-0')}")
