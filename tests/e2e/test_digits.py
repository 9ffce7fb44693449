"""The main job: apply, watch, succeed, fetch, evaluate, read the curve, keep the logs."""

import json
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from demo.verify import test_accuracy as evaluate
from e2e.kube import Namespace
from patience import HANG_SECONDS
from ports import free_ports

NAME = "digits"
ENOUGH = 0.96


@pytest.fixture(scope="module")
def watched() -> list[str]:
    """Lines of `kubectl get tj -w` while the job ran."""
    return []


@pytest.fixture
def finished(namespace: Namespace, make_job: Any, watched: list[str]) -> dict[str, Any]:
    """The job's status after it succeeded; it is applied once for the module."""
    if not watched:
        watch = subprocess.Popen(
            ["kubectl", "-n", namespace.name, "get", "tj", "-w"],
            env=namespace.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watch.stdout is not None
        reader = threading.Thread(target=lambda: watched.extend(watch.stdout), daemon=True)
        reader.start()
        began = time.monotonic()
        namespace.apply(make_job(NAME))
        namespace.wait_for_phase(NAME, "Succeeded")
        watched.append(f"took {time.monotonic() - began:.1f} s\n")
        watch.kill()
        print("".join(watched))
    return namespace.status(NAME)


def test_kubectl_get_tells_the_story_while_it_runs(
    finished: dict[str, Any], watched: list[str]
) -> None:
    story = "".join(watched)
    assert watched[0].split() == [
        "NAME",
        "PHASE",
        "PROGRESS",
        "STEP",
        "LOSS",
        "NODES",
        "RESTARTS",
        "CHECKPOINT",
        "AGE",
    ]
    for phase in ("Starting", "Running", "Succeeded"):
        assert phase in story
    steps = finished["progress"]["steps"]
    assert f"{steps}/{steps}" in story
    running = [line.split() for line in watched if " Running " in line]
    assert any(0 < int(line[2].removesuffix("%")) < 100 for line in running if "%" in line[2])


def test_kubectl_wait_returns(finished: dict[str, Any], namespace: Namespace) -> None:
    printed = namespace.kubectl("wait", "--for=condition=Succeeded", f"tj/{NAME}", "--timeout=5s")
    assert printed == f"trainingjob.trainyard.dev/{NAME} condition met\n"


def test_kubectl_describe_tells_the_story_in_events(
    finished: dict[str, Any], namespace: Namespace
) -> None:
    described = namespace.kubectl("describe", "tj", NAME)
    events = described[described.index("Events:") :]
    assert "Attempt 1 runs: 2 nodes, 2 ranks." in events
    assert "Succeeded" in events
    assert events.count("\n") < 10, "a story, not a flood"


def test_fetched_checkpoint_evaluates_to_the_reported_accuracy(
    finished: dict[str, Any], namespace: Namespace, digits_folder: Path, tmp_path: Path
) -> None:
    fetched = Path(namespace.trainyard("fetch", NAME, "best", "-d", str(tmp_path)).strip())
    reported = float(finished["progress"]["metrics"]["test_accuracy"])
    assert reported >= ENOUGH
    assert evaluate(fetched / "model.pt", digits_folder) == pytest.approx(reported, abs=1e-3)


def test_checkpoints_are_listed_and_verified(
    finished: dict[str, Any], namespace: Namespace
) -> None:
    table = namespace.trainyard("checkpoints", NAME)
    assert f"\n{finished['checkpoints']['latest']['step']} " in table
    assert "best" in table


def test_tensorboard_shows_the_curve_from_storage(
    finished: dict[str, Any], namespace: Namespace, cluster: Any
) -> None:
    port = free_ports(1)[0]
    tensorboard = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tensorboard.main",
            "--logdir",
            finished["tensorBoard"]["uri"],
            "--port",
            str(port),
            "--reload_interval",
            "1",
        ],
        env={**namespace.environment, "S3_ENDPOINT": cluster.s3_endpoint},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    root = f"http://127.0.0.1:{port}/data/plugin"
    try:
        tags = wait_for_json(
            f"{root}/timeseries/tags", lambda found: bool(found["scalars"]["runTagInfo"])
        )
        ((run, scalars),) = tags["scalars"]["runTagInfo"].items()
        tag = "train_loss_step"
        assert tag in scalars
        query = urllib.parse.urlencode({"run": run, "tag": tag, "format": "json"})
        last = finished["progress"]["steps"]
        # It reads one file after the other, and answers meanwhile.
        points = wait_for_json(
            f"{root}/scalars/scalars?{query}", lambda found: bool(found) and found[-1][1] == last
        )
    finally:
        tensorboard.kill()
    steps, losses = [point[1] for point in points], [point[2] for point in points]
    assert steps == sorted(set(steps))
    assert losses[-1] < losses[0] / 5


def wait_for_json(url: str, question: Callable[[Any], bool]) -> Any:
    """The answer of a server that may just be starting."""
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                found = json.loads(response.read())
            if question(found):
                return found
        except (OSError, ValueError):
            pass
        time.sleep(0.5)
    raise AssertionError(f"{url}: no answer")


def test_logs_of_all_ranks_outlive_the_job(
    finished: dict[str, Any], namespace: Namespace, cluster: Any
) -> None:
    uri = finished["logs"]["uri"]
    namespace.trainyard("delete", NAME, "-y")
    namespace.kubectl("wait", "--for=delete", f"tj/{NAME}", "--timeout=300s")
    storage = uri.rsplit(f"/{namespace.name}/", 1)[0]
    for rank in ("0", "1"):
        text = namespace.trainyard(
            "logs", NAME, "--rank", rank, "--storage", storage, "--endpoint", cluster.s3_endpoint
        )
        assert f"Rank {rank} is done at step" in text
