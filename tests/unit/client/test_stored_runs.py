"""Logs and checkpoints from storage alone: job and cluster are gone."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from trainyard.logs import FileTail, LogLine, LogReader, StoredTail, select
from trainyard_operator.layout import checkpoint_prefix, log_prefix, metrics_piece, run_prefix
from trainyard_trainer.manifest import Manifest, Part
from trainyard_trainer.storage import Storage, open_storage

WEIGHTS = b"weights" * 1000


@pytest.fixture
def storage(place: Path) -> Storage:
    """The storage of a job's newest run, beside an older one's."""
    base = open_storage((place / "bucket").as_uri())
    for uid in ("old", "new"):
        base.write(f"{run_prefix('default', 'digits', uid)}/run.json", b"{}")
    return base.child(run_prefix("default", "digits", "new"))


def save(storage: Storage, step: int, accuracy: float, attempt: int = 1) -> Manifest:
    prefix = checkpoint_prefix(step, attempt)
    parts = []
    for name, data in (("model.pt", WEIGHTS + bytes([step])), ("part-0.pt", b"optimizer")):
        storage.write(f"{prefix}/{name}", data)
        digest = hashlib.sha256(data).hexdigest()
        parts.append(Part(key=f"{prefix}/{name}", size_bytes=len(data), sha256=digest, rank=0))
    manifest = Manifest(
        job="digits",
        namespace="default",
        uid="new",
        attempt=attempt,
        step=step,
        epoch=step // 20,
        world_size=1,
        created_at="2026-03-01T12:00:00Z",
        metrics={"val_accuracy": accuracy},
        best={"metric": "val_accuracy", "mode": "max"},
        parts=tuple(parts),
    )
    storage.write(manifest.key, manifest.to_json())
    return manifest


def segment(storage: Storage, attempt: int, rank: int, sequence: int, *lines: str) -> None:
    text = "".join(
        f"2026-03-01T12:00:0{sequence}.{i:09d}Z {line}\n" for i, line in enumerate(lines)
    )
    key = f"{log_prefix(attempt, rank)}/{sequence:06d}.log.gz"
    storage.write(key, gzip.compress(text.encode()))


def test_the_table_names_best_and_latest(trainyard, storage: Storage) -> None:
    for step, accuracy in ((20, 0.9), (40, 0.97), (60, 0.95)):
        save(storage, step, accuracy)
    ran = trainyard("checkpoints", "digits", "--storage", "bucket", "--verify")
    lines = [line.split() for line in ran.out.splitlines()]
    assert (ran.code, lines[0]) == (
        0,
        ["STEP", "EPOCH", "VAL_ACCURACY", "SIZE", "AGE", "ATTEMPT", "KEPT", "AS", "VERIFIED"],
    )
    assert [[*line[:3], *line[7:]] for line in lines[1:]] == [
        ["60", "3", "0.95", "latest", "yes"],
        ["40", "2", "0.97", "best", "yes"],
        ["20", "1", "0.9", "yes"],
    ]


def test_fetch_brings_the_best_weights_and_prints_where(trainyard, storage: Storage) -> None:
    save(storage, 20, 0.97)
    save(storage, 40, 0.9)
    ran = trainyard("fetch", "digits", "--storage", "bucket")
    assert (ran.code, ran.out, ran.err) == (0, "digits/step-20\n", "")
    assert Path("digits/step-20/model.pt").read_bytes() == WEIGHTS + bytes([20])
    assert sorted(path.name for path in Path("digits/step-20").iterdir()) == [
        "manifest.json",
        "model.pt",
    ]


def test_fetch_all_brings_every_part(trainyard, storage: Storage) -> None:
    save(storage, 40, 0.9)
    ran = trainyard("fetch", "digits", 40, "--storage", "bucket", "--what", "all", "-d", "x")
    assert ran.out == "x/step-40\n"
    assert Path("x/step-40/part-0.pt").read_bytes() == b"optimizer"


def test_one_flipped_byte_is_found(trainyard, storage: Storage, place: Path) -> None:
    save(storage, 20, 0.9)
    manifest = save(storage, 40, 0.97)
    path = next((place / "bucket").rglob(f"{manifest.prefix}/model.pt"))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    ran = trainyard("fetch", "digits", "best", "--storage", "bucket")
    assert (ran.code, ran.out) == (12, "")
    assert ran.err == (
        "error: Checkpoint step 40 is corrupt: model.pt differs from its SHA-256\n"
        "help: trainyard fetch digits 20\n"
    )
    listed = trainyard("checkpoints", "digits", "--storage", "bucket", "--verify")
    assert listed.code == 12
    assert "no: model.pt differs from its SHA-256" in listed.out


def test_a_step_that_is_not_there_names_those_that_are(trainyard, storage: Storage) -> None:
    save(storage, 20, 0.9)
    ran = trainyard("fetch", "digits", 30, "--storage", "bucket")
    assert (ran.code, ran.err) == (
        12,
        "error: 'digits' has no checkpoint '30'; it has 20\nhelp: trainyard checkpoints digits\n",
    )


def test_a_job_that_was_never_there_is_not_found(trainyard, storage: Storage) -> None:
    assert trainyard("checkpoints", "ghost", "--storage", "bucket").code == 3


def test_checkpoints_are_a_document_for_a_program(trainyard, storage: Storage) -> None:
    save(storage, 20, 0.9)
    ran = trainyard("checkpoints", "digits", "--storage", "bucket", "-o", "json")
    found = json.loads(ran.out)
    assert [(one["step"], one["keptAs"], one["metrics"]) for one in found] == [
        (20, ["best", "latest"], {"val_accuracy": 0.9})
    ]


def test_logs_are_read_from_storage(trainyard, storage: Storage) -> None:
    segment(storage, 1, 0, 0, "epoch 1", "epoch 2")
    segment(storage, 1, 1, 0, "other rank")
    segment(storage, 2, 0, 1, "epoch 3")
    assert trainyard("logs", "digits", "--storage", "bucket").out == "epoch 1\nepoch 2\nepoch 3\n"
    assert trainyard("logs", "digits", "--storage", "bucket", "--rank", 1).out == "other rank\n"
    assert trainyard("logs", "digits", "--storage", "bucket", "--attempt", 2).out == "epoch 3\n"
    assert trainyard("logs", "digits", "--storage", "bucket", "--tail", 1).out == "epoch 3\n"
    assert trainyard("logs", "digits", "--storage", "bucket", "--grep", "2$").out == "epoch 2\n"
    fetched = trainyard("fetch", "digits", "--storage", "bucket", "--what", "logs")
    assert fetched.out == "digits/logs\n"
    assert Path("digits/logs/a1/rank-1.log").read_text().endswith(" other rank\n")


def test_a_reader_goes_on_in_storage_where_the_pod_ended(storage: Storage) -> None:
    """Lines seen in the pod are not repeated, later ones not lost."""

    class Pod:
        def new_lines(self) -> list[LogLine]:
            return [LogLine(1, 0, "one"), LogLine(1, 0, "two")]

    reader = LogReader(None, None)
    assert [line.text for line in reader._read({("pod", 1, 0): Pod()})] == ["one", "two"]
    segment(storage, 1, 0, 0, "one", "two", "three")
    tail = StoredTail(storage, 1, 0)
    assert [line.text for line in reader._read({("stored", 1, 0): tail})] == ["three"]
    segment(storage, 1, 0, 1, "four")
    assert [line.text for line in reader._read({("stored", 1, 0): tail})] == ["four"]


def test_a_bar_that_is_redrawn_is_one_line_in_storage_as_in_its_pod(storage: Storage) -> None:
    segment(storage, 1, 0, 0, "10%\r20%\r30%", "done")
    assert [line.text for line in StoredTail(storage, 1, 0).new_lines()] == [
        "10%\r20%\r30%",
        "done",
    ]


def test_a_bar_that_is_redrawn_is_one_line_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_bytes(b"10%\r20%\r\n\n[rank 1] a\r\nhalf")
    lines = FileTail(tmp_path / "output.log", 1, 0).new_lines()
    assert [(line.rank, line.text) for line in lines] == [(0, "10%\r20%"), (0, ""), (1, "a")]


def test_a_pods_own_words_go_with_its_rank() -> None:
    lines = [LogLine(1, 0, "a"), LogLine(1, None, "[node 0] b"), LogLine(1, None, "[node 1] c")]
    assert [line.text for line in select(lines, 0, None)] == ["a", "[node 0] b"]
    assert [line.text for line in select(lines, None, None)] == ["a", "[node 0] b", "[node 1] c"]


def test_a_pods_log_is_read_in_steps_without_loss_or_repetition() -> None:
    """The API server gives a log from a whole second on."""
    from trainyard.logs import PodTail

    log: list[str] = []

    class Api:
        def pod_log(self, pod: str, *, since: str | None = None) -> list[str]:
            return [line for line in log if since is None or line[:19] >= since[:19]]

    tail = PodTail(Api(), "digits-master-0", 1, 0)
    seen = []
    for second, text in [("00", "a"), ("00", "b"), ("01", "c"), ("01", "d"), ("03", "e")]:
        log.append(f"2026-03-01T12:00:{second}.5Z {text}")
        seen += [line.text for line in tail.new_lines()]
        assert tail.new_lines() == []
    assert seen == ["a", "b", "c", "d", "e"]


def test_metrics_are_fetched_while_the_run_still_writes_pieces(
    trainyard, storage: Storage, place: Path
) -> None:
    header = "step,epoch,stage,attempt,time,train_loss"
    for attempt, numbers in ((1, (0, 1)), (2, (0, 1, 2))):
        for number in numbers:
            text = f"{header}\n{number},0,train,{attempt},2026-03-01T12:00:00Z,0.5\n"
            storage.write(metrics_piece(attempt, number, number), text.encode())
    ran = trainyard("fetch", "digits", "--what", "metrics", "--storage", "bucket")
    assert ran.code == 0
    rows = (place / ran.out.strip()).read_text().splitlines()
    assert rows[0] == header
    assert [row.split(",")[0:4:3] for row in rows[1:]] == [["0", "2"], ["1", "2"], ["2", "2"]]


def test_fetch_report_brings_the_page_and_the_pictures(trainyard, storage: Storage) -> None:
    ran = trainyard("fetch", "digits", "--storage", "bucket", "--what", "report")
    assert (ran.code, ran.err.splitlines()[0]) == (3, "error: 'digits' has stored no report yet")
    storage.write("pictures/val/roc.png", b"png")
    storage.write("report.html", b"<!doctype html>")
    ran = trainyard("fetch", "digits", "--storage", "bucket", "--what", "report")
    assert ran.out == "digits/report.html\n"
    assert Path("digits/pictures/val/roc.png").read_bytes() == b"png"
    assert Path("digits/report.html").read_bytes() == b"<!doctype html>"
