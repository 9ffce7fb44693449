"""Five folds of the digits as one object, two at a time, while the operator is killed."""

import csv
import io
import json
import random
import statistics
import time
from typing import Any

import pytest
from demo.jobs import BUCKET, s3_client
from e2e.kube import Namespace

NAME = "folds"
FOLDS = 5
WITHIN_SECONDS = 300
SYSTEM = ("-n", "trainyard-system")


def make_sweep(job: dict[str, Any]) -> dict[str, Any]:
    """Of the digits job, on one node each."""
    config = {**job["spec"]["config"], "training": {**job["spec"]["config"]["training"]}}
    config["training"]["epochs"] = 3
    return {
        "apiVersion": job["apiVersion"],
        "kind": "TrainingSweep",
        "metadata": {"name": NAME},
        "spec": {
            "template": {"spec": {**job["spec"], "nodes": 1, "config": config}},
            "method": "folds",
            "folds": FOLDS,
            "objective": {"metric": "val_accuracy", "goal": "maximize"},
            "parallelism": 2,
        },
    }


def sweep_of(namespace: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(namespace.kubectl("get", "tsw", NAME, "-o", "json"))
    return found


def trials_of(namespace: Namespace) -> dict[str, dict[str, Any]]:
    selector = f"trainyard.dev/sweep={NAME},trainyard.dev/trial"
    found = json.loads(namespace.kubectl("get", "tj", "-l", selector, "-o", "json"))
    return {item["metadata"]["name"]: item for item in found["items"]}


@pytest.fixture(scope="module")
def ended(namespace: Namespace, make_job: Any) -> dict[str, Any]:
    """The sweep after its end; the uid of each trial never changed on the way."""
    chance, uids, kills = random.Random(5), {}, 0
    namespace.apply(make_sweep(make_job(NAME)))
    deadline, next_kill = time.monotonic() + WITHIN_SECONDS, time.monotonic() + 2
    while time.monotonic() < deadline:
        for name, trial in trials_of(namespace).items():
            assert uids.setdefault(name, trial["metadata"]["uid"]) == trial["metadata"]["uid"]
        sweep = sweep_of(namespace)
        status = sweep.get("status") or {}
        if status.get("phase") in {"Succeeded", "Failed"} and status.get("reportUri"):
            print(namespace.kubectl("get", "tsw"), f"{kills} operators were killed")
            return sweep
        if kills < 5 and time.monotonic() > next_kill:
            namespace.kubectl(
                *SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/name=trainyard",
                "--force", "--grace-period=0", "--wait=false",
            )  # fmt: skip
            kills, next_kill = kills + 1, time.monotonic() + chance.uniform(5, 20)
        time.sleep(1)
    described = namespace.kubectl("describe", "tsw", NAME, check=False)
    raise AssertionError(f"{described}\n{namespace.explain(f'{NAME}-0')}")


def test_every_fold_was_trained_once(ended: dict[str, Any], namespace: Namespace) -> None:
    trials = trials_of(namespace)
    assert sorted(trials) == [f"{NAME}-{fold}" for fold in range(FOLDS)]
    assert {trial["status"]["phase"] for trial in trials.values()} == {"Succeeded"}
    counts = ended["status"]["counts"]
    assert (counts["created"], counts["succeeded"]) == (FOLDS, FOLDS)


def test_summary_is_what_the_results_give_by_hand(
    ended: dict[str, Any], namespace: Namespace, cluster: Any
) -> None:
    values = [result["metrics"]["val_accuracy"] for result in results(ended, cluster)]
    assert len(values) == FOLDS
    summary = ended["status"]["summary"]
    assert summary["mean"] == pytest.approx(statistics.fmean(values), abs=1e-4)
    assert summary["std"] == pytest.approx(statistics.stdev(values), abs=1e-4)


def test_report_has_the_values_of_the_results(ended: dict[str, Any], cluster: Any) -> None:
    prefix = ended["status"]["reportUri"].removeprefix(f"s3://{BUCKET}/")
    client = s3_client(cluster.s3_endpoint)
    text = client.get_object(Bucket=BUCKET, Key=f"{prefix}/trials.csv")["Body"].read().decode()
    told = {row["job"]: float(row["val_accuracy"]) for row in csv.DictReader(io.StringIO(text))}
    exact = {r["job"]: r["metrics"]["val_accuracy"] for r in results(ended, cluster)}
    assert told == pytest.approx(exact, abs=1e-6)
    for name in ("report.md", "report.html"):
        assert client.head_object(Bucket=BUCKET, Key=f"{prefix}/{name}")["ContentLength"] > 0


def test_best_fold_can_be_fetched_by_the_sweeps_name(
    ended: dict[str, Any], namespace: Namespace, tmp_path: Any
) -> None:
    printed = namespace.trainyard("fetch", f"sweep/{NAME}", "best", "-d", str(tmp_path))
    assert (tmp_path / printed.strip().rpartition("/")[2] / "model.pt").is_file()


def results(sweep: dict[str, Any], cluster: Any) -> list[dict[str, Any]]:
    """Every result.json below the sweep's prefix."""
    prefix = sweep["status"]["reportUri"].removeprefix(f"s3://{BUCKET}/").removesuffix("report")
    client = s3_client(cluster.s3_endpoint)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    found = [key for key in keys if key.endswith("/result.json")]
    return [json.loads(client.get_object(Bucket=BUCKET, Key=k)["Body"].read()) for k in found]
