"""A job whose S3 fails for a while, from the ranks through the planner to its status."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chaos import job
from chaos.attack import RANKS, Place, started
from chaos.depot import environment
from chaos.gang import Gang
from cluster.s3 import S3Access
from faults.s3_actions import answer
from faults.s3_proxy import S3Proxy
from integration.bucket import BUCKET
from patience import HANG_SECONDS

from trainyard_trainer.manifest import list_manifests, verify
from trainyard_trainer.storage import Storage, open_storage

ENDLESS_EPOCHS = 100_000


class Run:
    """A job through `trainyard run`, and what a person would see of it."""

    def __init__(self, place: Place, runner: Any, storage: Storage) -> None:
        self.place, self._runner, self._storage = place, runner, storage
        self._gang = Gang(place.root / "events", runner.pid, RANKS)

    @property
    def status(self) -> dict[str, Any]:
        return self.place.job_object.get("status", {})

    @property
    def step(self) -> int:
        self._gang.refresh()
        return self._gang.step

    @property
    def stored(self) -> int:
        """Step of the newest checkpoint that the status names."""
        latest = self.status.get("checkpoints", {}).get("latest") or {}
        return latest.get("step", 0)

    @property
    def storage(self) -> Storage:
        return self._storage.child(self.place.prefix)

    def condition(self) -> tuple[str | None, str]:
        found = [c for c in self.status.get("conditions", ()) if c["type"] == "StorageDegraded"]
        return (found[0]["status"], found[0]["message"]) if found else (None, "")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while not (self.place.root / "events").exists() or not holds():
            output = self.place.output.read_text()[-3000:]
            assert self._runner.poll() is None, f"it ended, waiting for {what}:\n{output}"
            assert time.monotonic() < deadline, f"{what} did not come:\n{self.status}\n{output}"
            time.sleep(0.1)


@pytest.fixture
def proxy(server: S3Access) -> Iterator[S3Proxy]:
    with environment(server.environment()), S3Proxy(server) as proxy:
        yield proxy


@pytest.fixture
def run(proxy: S3Proxy, tmp_path: Path) -> Iterator[Run]:
    """Two nodes of the GAN, saving every 20 steps, with no end of their own."""
    job.write_data(tmp_path / "data")
    packages = job.install_recipes(tmp_path / "packages")
    place = Place(tmp_path, tmp_path / "job.yaml", packages, nodes=2)
    storage = {"uri": f"s3://{BUCKET}/{tmp_path.name}", "endpoint": proxy.access.endpoint}
    job.write_job(place.job_file, "gan", 1, place.nodes, storage | {"compat": "strict"})
    manifest = yaml.safe_load(place.job_file.read_text())
    manifest["spec"]["config"]["training"] |= {"epochs": ENDLESS_EPOCHS, "early_stopping": None}
    manifest["spec"]["checkpoint"] = {"everySteps": 20, "keepLast": 3}
    place.job_file.write_text(yaml.safe_dump(manifest))
    with started(place) as runner:
        yield Run(place, runner, open_storage(**storage, compat="strict"))


def test_failing_storage_shows_in_the_status_until_it_works_again(run: Run, proxy: S3Proxy) -> None:
    run.until(lambda: run.stored >= 20, "a first checkpoint")
    assert run.condition()[0] != "True"
    with proxy.during(answer(503, "SlowDown"), method="P*"):
        run.until(lambda: run.condition()[0] == "True", "StorageDegraded")
        assert "SlowDown" in run.condition()[1]
        began, last = run.step, run.stored
        run.until(lambda: run.step >= began + 60, "training that goes on")
        assert (run.status["phase"], run.status["attempt"]) == ("Running", 1)
        assert run.stored <= last + 20  # At most what was under way when it broke.
        verify(run.storage, list_manifests(run.storage).valid[0])
        healed = run.step
    run.until(lambda: run.condition()[0] == "False", "the end of StorageDegraded")
    run.until(lambda: run.stored > healed, "a checkpoint of what was trained meanwhile")
    newest = list_manifests(run.storage).valid[0]
    assert newest.step >= run.stored > healed
    verify(run.storage, newest)
    assert (run.status["phase"], run.status["attempt"]) == ("Running", 1)
    told = [entry["type"] for entry in run.status["history"]]
    assert told.count("StorageDegraded") == 1
