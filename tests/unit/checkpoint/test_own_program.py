"""The program that docs/checkpoints.md shows runs as it stands, alone and with several ranks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from patience import HANG_SECONDS

from trainyard_trainer.checkpoint import Checkpointer, Position, Retention
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.manifest import list_manifests
from trainyard_trainer.node_memory import NodeMemory
from trainyard_trainer.storage import open_storage
from trainyard_trainer.storage_errors import NoValidCheckpoint, StateNotPlain, StorageUriInvalid

PAGE = Path(__file__).resolve().parents[3] / "docs/checkpoints.md"
JOIN = "import torch.distributed as dist\ndist.init_process_group('gloo')\n"


@pytest.fixture
def program(tmp_path):
    (found,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found.count("file:///tmp/my-run") == 1
    return found.replace("file:///tmp/my-run", (tmp_path / "run").as_uri())


def steps_of(tmp_path) -> list[tuple[int, int]]:
    manifests = list_manifests(open_storage((tmp_path / "run").as_uri())).valid
    return [(manifest.step, manifest.attempt) for manifest in manifests]


def test_it_saves_and_goes_on(program, tmp_path):
    exec(program.replace("step < 100", "step < 40"), {})
    assert (40, 1) in steps_of(tmp_path) or (20, 1) in steps_of(tmp_path)
    exec(program, {})
    assert steps_of(tmp_path)[0] == (100, 2)
    before = (tmp_path / "run/checkpoints/latest.json").read_bytes()
    exec(program, {})
    assert (tmp_path / "run/checkpoints/latest.json").read_bytes() == before


@pytest.mark.slow
def test_it_runs_under_torchrun(program, tmp_path):
    file = tmp_path / "program.py"
    file.write_text(program.replace("import torch\n", f"import torch\n{JOIN}"))
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(file)]
    subprocess.run([sys.executable, *command], env=environment, check=True, timeout=HANG_SECONDS)
    (manifest, *_) = list_manifests(open_storage((tmp_path / "run").as_uri())).valid
    assert (manifest.step, manifest.world_size) == (100, 2)
    assert [part.name for part in manifest.parts] == ["model.pt", "part-0.pt", "part-1.pt"]


def test_uri_that_cannot_be_read_is_blamed_on_the_call():
    with pytest.raises(StorageUriInvalid) as caught:
        Checkpointer.open("gs://bucket/run")
    assert str(caught.value) == (
        "Checkpointer.open(uri): cannot read 'gs://bucket/run'; write s3://<bucket>/<prefix> or "
        "file:///<directory>."
    )


def test_each_opening_is_an_attempt_of_its_own(tmp_path):
    uri = (tmp_path / "run").as_uri()
    for attempt in (1, 2):
        checkpointer = Checkpointer.open(uri, keep=Retention(last=5))
        assert checkpointer.save(Position(step=attempt), {"n": attempt}, blocking=True)
    assert steps_of(tmp_path) == [(2, 2), (1, 1)]


def test_memory_is_used_where_it_is_given(tmp_path):
    memory = tmp_path / "memory"
    checkpointer = Checkpointer.open((tmp_path / "run").as_uri(), job="mine", node_memory=memory)
    checkpointer.save(7, {"n": 1}, blocking=True)
    held = list_manifests(NodeMemory(memory, "mine").storage).valid
    assert [manifest.step for manifest in held] == [7]


def save(checkpointer: Checkpointer, step: int, value: float) -> None:
    weight = torch.full((4,), value)
    assert checkpointer.save(step, {"model": {"weight": weight}}, blocking=True)


def test_two_that_begin_at_once_do_not_spoil_each_other(tmp_path):
    uri = (tmp_path / "run").as_uri()
    one, other = Checkpointer.open(uri), Checkpointer.open(uri)
    save(one, 1, 1.0)
    save(other, 1, 2.0)
    loaded = Checkpointer.open(uri).load_latest()
    assert loaded is not None
    assert (loaded.manifest.attempt, loaded.warning) == (2, None)
    assert loaded.state["model"]["weight"].tolist() == [2.0] * 4


def test_a_rank_that_reaches_no_other_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError) as caught:
        Checkpointer.open((tmp_path / "run").as_uri())
    assert str(caught.value) == (
        "WORLD_SIZE is 2, but torch.distributed is not initialised; call "
        "torch.distributed.init_process_group() before Checkpointer.open()."
    )


def spoil_newest(tmp_path: Path) -> None:
    newest = max((tmp_path / "run/checkpoints").glob("step-*"))
    (newest / "model.pt").write_bytes(b"spoilt")


def test_a_checkpoint_that_is_set_aside_is_told_in_the_log(tmp_path, caplog):
    uri = (tmp_path / "run").as_uri()
    first = Checkpointer.open(uri)
    save(first, 1, 1.0)
    save(first, 2, 2.0)
    spoil_newest(tmp_path)
    Checkpointer.open(uri).load_latest()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "step 2 is corrupt: model.pt" in record.message


def test_a_run_of_which_only_what_was_set_aside_is_left_is_not_begun_anew(tmp_path):
    uri = (tmp_path / "run").as_uri()
    first = Checkpointer.open(uri)
    save(first, 1, 1.0)
    save(first, 2, 2.0)
    spoil_newest(tmp_path)
    Checkpointer.open(uri).load_latest()
    for lost in (tmp_path / "run/checkpoints").rglob("*.json"):
        lost.unlink()
    with pytest.raises(NoValidCheckpoint, match="was set aside, and no other is left"):
        Checkpointer.open(uri).load_latest()


def test_a_module_in_the_place_of_its_weights_is_named(tmp_path):
    checkpointer = Checkpointer.open((tmp_path / "run").as_uri())
    with pytest.raises(StateNotPlain, match="'model' is a Linear; save tensors"):
        checkpointer.save(1, {"model": torch.nn.Linear(2, 2)})
