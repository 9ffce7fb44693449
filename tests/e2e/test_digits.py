"""The main job: apply, watch, succeed, fetch, evaluate, read the curve, keep the logs."""

import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from demo.verify import test_accuracy as evaluate
from e2e.kube import Namespace

NAME = "digits"
ENOUGH = 0.96
WITHIN_SECONDS = 120


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
        namespace.wait_for_phase(NAME, "Succeeded", WITHIN_SECONDS)
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


def test_tensorboard_reads_the_curve_from_storage(
    finished: dict[str, Any], namespace: Namespace, cluster: Any
) -> None:
    script = (
        "import sys\n"
        "from tensorboard.backend.event_processing.plugin_event_multiplexer import "
        "EventMultiplexer\n"
        "runs = EventMultiplexer().AddRunsFromDirectory(sys.argv[1])\n"
        "runs.Reload()\n"
        "points = [e for run in runs.Runs() for tag in runs.Runs()[run]['tensors'] + "
        "runs.Runs()[run]['scalars'] if 'train_loss' in tag for e in runs.Tensors(run, tag)]\n"
        "print(len(points))\n"
    )
    import sys

    done = subprocess.run(
        [sys.executable, "-c", script, finished["tensorBoard"]["uri"]],
        env={**namespace.environment, "S3_ENDPOINT": cluster.s3_endpoint},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10


def test_logs_of_all_ranks_outlive_the_job(
    finished: dict[str, Any], namespace: Namespace, cluster: Any
) -> None:
    uri = finished["logs"]["uri"]
    namespace.trainyard("delete", NAME, "-y")
    namespace.kubectl("wait", "--for=delete", f"tj/{NAME}", "--timeout=60s")
    storage = uri.rsplit(f"/{namespace.name}/", 1)[0]
    for rank in ("0", "1"):
        text = namespace.trainyard(
            "logs", NAME, "--rank", rank, "--storage", storage, "--endpoint", cluster.s3_endpoint
        )
        assert "Epoch" in text
