"""`fetch --what run`: results under the names of the recipe's guide."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from trainyard_operator.layout import checkpoint_prefix, log_prefix, run_prefix
from trainyard_trainer.manifest import Manifest, Part
from trainyard_trainer.outputs import Kept
from trainyard_trainer.recipes.classification.outputs import run_name
from trainyard_trainer.recipes.skin_lesion.outputs import outputs
from trainyard_trainer.storage import Storage, open_storage

SKIN: dict[str, Any] = {
    "job": "skin",
    "recipe": "skin-lesion",
    "started_at": "2024-01-23T15:30:42Z",
    "overrides": [],
    "config": {"model": {"name": "efficientnet"}, "training": {"monitor_metric": "val_loss"}},
}
ANTS: dict[str, Any] = {
    "job": "ants",
    "recipe": "classification",
    "overrides": ["fold=1", "batch_size=32"],
    "config": {"data": {"dataset_name": "hymenoptera", "fold": 1}},
}


def save(storage: Storage, step: int, epoch: int, loss: float, metric: str) -> None:
    prefix, data = checkpoint_prefix(step, 1), f"weights of {step}".encode()
    storage.write(f"{prefix}/model.pt", data)
    digest = hashlib.sha256(data).hexdigest()
    part = Part(key=f"{prefix}/model.pt", size_bytes=len(data), sha256=digest, rank=0)
    manifest = Manifest(
        job="job",
        namespace="default",
        uid="u1",
        attempt=1,
        step=step,
        epoch=epoch,
        world_size=1,
        created_at="2026-03-01T12:00:00Z",
        metrics={metric: loss},
        best={"metric": metric, "mode": "min"},
        parts=(part,),
    )
    storage.write(manifest.key, manifest.to_json())


@pytest.fixture
def bucket(place: Path) -> Storage:
    base = open_storage((place / "bucket").as_uri())
    for result, metric in ((SKIN, "val_loss"), (ANTS, "val_error")):
        run = base.child(run_prefix("default", result["job"], "u1"))
        run.write("run.json", b"{}")
        run.write("result.json", json.dumps(result).encode())
        run.write("metrics.csv", b"step,loss")
        run.write("summary.txt", b"summary")
        run.write("reports/classification_report_val.txt", b"report")
        run.write("tensorboard/events.out.tfevents.1", b"events")
        for attempt in (2, 1):
            text = gzip.compress(f"attempt {attempt}\n".encode())
            run.write(f"{log_prefix(attempt, 0)}/000000.log.gz", text)
        save(run, 25, 25, 0.342, metric)
        save(run, 50, 50, 0.356, metric)
    return base


def files(directory: str) -> dict[str, str]:
    root = Path(directory)
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_text() for path in paths}


def test_skin_lesion_has_the_guides_models_logs_and_reports(trainyard, bucket: Storage) -> None:
    ran = trainyard("fetch", "skin", "--storage", "bucket", "--what", "run", "-d", "here")
    assert (ran.code, ran.out) == (0, "here\n")
    found = files("here")
    assert found.pop("models/efficientnet/version_0/hparams.yaml").startswith("model:\n")
    assert found == {
        "logs/train_2024-01-23_15-30-42.log": "attempt 1\nattempt 2\n",
        "models/efficientnet/version_0/checkpoints/epoch=024-val_loss=0.342.ckpt": "weights of 25",
        "models/efficientnet/version_0/checkpoints/epoch=049-val_loss=0.356.ckpt": "weights of 50",
        "models/efficientnet/version_0/checkpoints/last.ckpt": "weights of 50",
        "models/efficientnet/version_0/events.out.tfevents.1": "events",
        "reports/training_metrics.csv": "step,loss",
    }


def test_another_fetch_makes_another_version(trainyard, bucket: Storage) -> None:
    for _ in range(2):
        trainyard("fetch", "skin", "--storage", "bucket", "--what", "run", "-d", "here")
    versions = sorted(path.name for path in Path("here/models/efficientnet").iterdir())
    assert versions == ["version_0", "version_1"]
    assert Path("here/models/efficientnet/version_1/checkpoints/last.ckpt").is_file()


def test_classification_has_the_guides_run_directory(trainyard, bucket: Storage) -> None:
    trainyard("fetch", "ants", "--storage", "bucket", "--what", "run", "-d", "here")
    run = "runs/hymenoptera_batch_32_fold_1"
    found = files("here")
    assert found.pop(f"{run}/config.yaml").startswith("data:\n")
    assert found == {
        f"{run}/logs/classification_report_val.txt": "report",
        f"{run}/logs/train.log": "attempt 1\nattempt 2\n",
        f"{run}/summary.txt": "summary",
        f"{run}/tensorboard/events.out.tfevents.1": "events",
        f"{run}/weights/best.pt": "weights of 25",
        f"{run}/weights/last.pt": "weights of 50",
    }


def test_run_without_overrides_is_the_base() -> None:
    assert run_name(ANTS | {"overrides": ["data.fold=1"]}) == "hymenoptera_base_fold_1"


def test_checkpoint_without_the_metric_has_no_name_of_its_own() -> None:
    found = outputs(SKIN, [Kept(7, 0, {}, ()), Kept(9, 1, {}, ("latest",))])
    names = [path for path in found if path.endswith(".ckpt")]
    assert names == ["models/efficientnet/version_{version}/checkpoints/last.ckpt"]


def test_run_that_has_not_ended_has_no_directory_yet(trainyard, bucket: Storage) -> None:
    bucket.write(f"{run_prefix('default', 'young', 'u1')}/run.json", b"{}")
    ran = trainyard("fetch", "young", "--storage", "bucket", "--what", "run")
    assert (ran.code, ran.err.splitlines()[0]) == (3, "error: 'young' has no result yet")
