"""A program's checkpoint directory: copied when quiet, restored only where it verifies."""

import os
from pathlib import Path

import pytest

from trainyard_operator.layout import MANIFEST_FILE
from trainyard_trainer.directory import Watch, scan, unit_of
from trainyard_trainer.directory_keeper import DirectoryKeeper
from trainyard_trainer.directory_manifest import list_copies
from trainyard_trainer.directory_restore import restore, restore_other
from trainyard_trainer.directory_store import DirectoryStore, Reported
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.files import FileStorage
from trainyard_trainer.manifest import Best
from trainyard_trainer.saved import Identity
from trainyard_trainer.storage_errors import NoValidCheckpoint


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    return FileStorage(tmp_path / "storage")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "checkpoint-10").mkdir(parents=True)
    (folder / "checkpoint-10" / "weights.bin").write_bytes(b"ten")
    (folder / "state.json").write_text("{}")
    return folder


def store_of(storage: FileStorage, attempt: int = 1, **keep) -> DirectoryStore:
    identity = Identity(namespace="research", job="nodules", uid="uid-1", attempt=attempt)
    return DirectoryStore(storage, identity, **{"keep_last": 3, **keep})


def save(store: DirectoryStore, root: Path, step: int | None = None, **metrics: float):
    listing = scan(root)
    return store.save(root, listing, Reported(step, metrics=metrics), units(listing))


def units(listing) -> set[str]:
    return {unit_of(path) for path in listing}


def contents(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in scan(folder)}


def objects(storage: FileStorage) -> list[str]:
    return [entry.key for entry in storage.list()]


def test_a_copy_is_restored_with_its_times(storage, root, tmp_path):
    save(store_of(storage), root, step=10)
    restored = restore(storage, tmp_path / "new", before=2, set_aside=True)
    assert restored.manifest is not None
    assert (restored.manifest.step, restored.warning) == (10, None)
    assert contents(tmp_path / "new") == contents(root)
    times = [(folder / "state.json").stat().st_mtime_ns for folder in (root, tmp_path / "new")]
    assert times[0] == times[1]


def test_only_what_changed_is_sent_again(storage, root):
    store = store_of(storage)
    save(store, root)
    (root / "checkpoint-20").mkdir()
    (root / "checkpoint-20" / "weights.bin").write_bytes(b"twenty")
    second = save(store, root)
    assert [file.key for file in second.files] == [
        "directory/a1/000001/00000",
        "directory/a1/000002/00001",
        "directory/a1/000001/00001",
    ]
    assert objects(storage) == [
        "directory/a1/000001/00000",
        "directory/a1/000001/00001",
        "directory/a1/000001/manifest.json",
        "directory/a1/000002/00001",
        "directory/a1/000002/manifest.json",
    ]


def test_a_directory_that_changes_under_the_copy_makes_none(storage, root):
    store, listing = store_of(storage), scan(root)
    (root / "state.json").write_text("{1}")
    assert store.save(root, listing, Reported(), units(listing)) is None
    (root / "state.json").unlink()
    assert store.save(root, listing, Reported(), units(listing)) is None
    assert list_copies(storage).valid == ()


def test_the_next_attempt_sends_nothing_that_it_went_on_from(storage, root, tmp_path):
    save(store_of(storage), root)
    new = tmp_path / "new"
    restored = restore(storage, new, before=2, set_aside=True)
    second = store_of(storage, attempt=2)
    assert second.take_up(new, restored.manifest) == scan(new)
    (new / "state.json").write_text("{2}")
    save(second, new)
    assert [key for key in objects(storage) if key.startswith("directory/a2/")] == [
        "directory/a2/000001/00001",
        "directory/a2/000001/manifest.json",
    ]


@pytest.mark.parametrize("spoil", ["flip", "cut", "delete"])
def test_a_spoilt_copy_is_set_aside_and_the_one_before_is_used(storage, root, tmp_path, spoil):
    store = store_of(storage)
    save(store, root, step=10)
    (root / "state.json").write_text("{20}")
    save(store, root, step=20)
    path = tmp_path / "storage" / "directory/a1/000002/00001"
    if spoil == "delete":
        path.unlink()
    else:
        path.write_text("{21}" if spoil == "flip" else "{2")
    restored = restore(storage, tmp_path / "new", before=2, set_aside=True)
    problem = {
        "flip": "differs from its SHA-256",
        "cut": "has 2 of its 4 bytes",
        "delete": "is missing",
    }[spoil]
    assert restored.manifest.step == 10
    assert restored.warning == (
        f"Checkpoint directory: copy 2 of attempt 1 is corrupt: 'state.json' {problem}. "
        "Set aside; going on from copy 1 of attempt 1."
    )
    assert (tmp_path / "new" / "state.json").read_text() == "{}"
    kept = [key for key in objects(storage) if key.endswith(MANIFEST_FILE)]
    assert kept == [
        "directory/a1/000001/manifest.json",
        "quarantine/directory/a1/000002/manifest.json",
    ]


def test_a_manifest_with_one_wrong_byte_is_not_believed(storage, root, tmp_path):
    save(store_of(storage), root)
    path = tmp_path / "storage" / "directory/a1/000001/manifest.json"
    path.write_bytes(path.read_bytes().replace(b"state.json", b"stale.json"))
    with pytest.raises(NoValidCheckpoint, match="it differs from its own digest"):
        restore(storage, tmp_path / "new", before=2, set_aside=True)
    assert not (tmp_path / "new").exists()


def test_with_every_copy_spoilt_nothing_starts_from_zero_in_silence(storage, root, tmp_path):
    save(store_of(storage), root)
    (tmp_path / "storage" / "directory/a1/000001/00000").write_bytes(b"TEN")
    for _ in range(2):
        with pytest.raises(NoValidCheckpoint) as caught:
            restore(storage, tmp_path / "new", before=2, set_aside=True)
    assert "1 checkpoint(s) and none can be used" in str(caught.value)


def test_all_nodes_of_an_attempt_begin_from_a_copy_of_an_earlier_one(storage, root, tmp_path):
    save(store_of(storage), root, step=10)
    (root / "state.json").write_text("{20}")
    save(store_of(storage, attempt=2), root, step=20)
    late = restore(storage, tmp_path / "late", before=2, set_aside=False)
    assert late.manifest.step == 10


def test_without_a_copy_the_directory_is_there_and_empty(storage, tmp_path):
    assert restore(storage, tmp_path / "new", before=1, set_aside=True).manifest is None
    assert contents(tmp_path / "new") == {}


def test_an_attempt_that_was_replaced_writes_no_manifest(storage, root):
    save(store_of(storage, attempt=2), root)
    (root / "state.json").write_text("{late}")
    assert save(store_of(storage, attempt=1), root) is None
    assert [copy.attempt for copy in list_copies(storage).valid] == [2]


def test_the_newest_the_best_and_the_resumed_are_kept_with_what_they_name(storage, root, tmp_path):
    first = store_of(storage)
    save(first, root)
    new = tmp_path / "new"
    resumed = restore(storage, new, before=2, set_aside=True).manifest
    store = store_of(storage, attempt=2, keep_last=1, best=Best(metric="loss", mode="min"))
    store.take_up(new, resumed)
    for number, loss in enumerate([0.5, 0.1, 0.3, 0.2]):
        (new / "state.json").write_text(str(number) * 3)
        save(store, new, loss=loss)
    assert [(copy.attempt, copy.sequence) for copy in list_copies(storage).valid] == [
        (2, 4),
        (2, 2),
        (1, 1),
    ]
    assert store.kept == 3
    named = {file.key for copy in list_copies(storage).valid for file in copy.files}
    assert {k for k in objects(storage) if not k.endswith(MANIFEST_FILE)} == named


def test_what_a_dead_attempt_left_goes_with_the_next_first_copy(storage, root):
    storage.write("directory/a1/000007/00000", b"half a copy")
    save(store_of(storage, attempt=2), root)
    assert "directory/a1/000007/00000" not in objects(storage)


def test_another_jobs_directory_can_be_the_beginning(storage, root, tmp_path):
    save(store_of(storage), root, step=10)
    assert restore_other(storage, tmp_path / "new", "10").manifest.step == 10
    assert contents(tmp_path / "new") == contents(root)
    with pytest.raises(ConfigurationError, match="write latest or a step"):
        restore_other(storage, tmp_path / "new", "best")


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_name_that_cannot_be_kept_is_told_and_not_lost_in_silence(storage, root, is_clean):
    (root / os.fsdecode(b"model-\xff.bin")).write_bytes(b"1")
    keeper = keeper_of(storage, root)
    assert keeper.finish(is_clean=is_clean, timeout_seconds=30) == (
        "TRAINYARD_CHECKPOINT_DIR: the name 'model-\\udcff.bin' is no UTF-8; rename the file."
    )


def test_a_folder_that_cannot_be_read_is_told_until_it_can(storage, root, monkeypatch):
    walk = os.walk

    def refuse(top, onerror):
        onerror(PermissionError(13, "Permission denied", f"{top}/checkpoint-10"))
        return walk(top)

    monkeypatch.setattr("trainyard_trainer.directory.os.walk", refuse)
    assert keeper_of(storage, root).finish(is_clean=True, timeout_seconds=30) == (
        "TRAINYARD_CHECKPOINT_DIR cannot be read: [Errno 13] Permission denied: "
        f"'{root}/checkpoint-10'"
    )
    monkeypatch.setattr("trainyard_trainer.directory.os.walk", lambda top, onerror: walk(top))
    assert keeper_of(storage, root).finish(is_clean=True, timeout_seconds=30) is None


def keeper_of(storage, root) -> DirectoryKeeper:
    watch = Watch({}, settle_seconds=0.0)
    keeper = DirectoryKeeper(root, store_of(storage), watch, Reported, every_seconds=30.0)
    keeper.retry_pauses = (0.0,)
    keeper.start()
    return keeper


def test_links_are_left_out(root):
    (root / "latest").symlink_to(root / "state.json")
    assert sorted(scan(root)) == ["checkpoint-10/weights.bin", "state.json"]


def test_a_copy_is_due_once_nothing_was_written_for_a_while(root):
    watch = Watch({}, settle_seconds=10)
    listing = scan(root)
    watch.look(listing, 1, step=5)
    assert watch.due(1) is None
    watch.look(listing, 10.9, step=6)
    assert watch.due(10.9) is None
    due = watch.due(11)
    assert (due.listing, due.units, due.step) == (listing, {"", "checkpoint-10"}, 5)
    watch.keep(listing)
    assert watch.due(60) is None
    (root / "state.json").write_text("{more}")
    watch.look(scan(root), 61, step=9)
    assert watch.due(61) is None
    assert watch.all_due().listing == scan(root)
    assert watch.due(71).step == 9


def test_what_is_written_all_the_time_holds_up_no_other_folder(storage, root):
    store, watch = store_of(storage), Watch({}, settle_seconds=10)
    (root / "runs").mkdir()
    for second in range(12):
        (root / "runs" / "events").write_text("x" * (second + 1))
        watch.look(scan(root), second, step=second)
    due = watch.due(11)
    assert sorted(due.listing) == ["checkpoint-10/weights.bin", "state.json"]
    assert due.step == 0
    assert store.save(root, due.listing, Reported(due.step), due.units) is not None
    watch.keep(due.listing)
    assert watch.due(12) is None


def test_a_busy_folder_is_kept_as_storage_has_it(storage, root, tmp_path):
    store, watch = store_of(storage), Watch({}, settle_seconds=10)
    first = scan(root)
    watch.look(first, 0, step=1)
    store.save(root, first, Reported(1), units(first))
    watch.keep(first)
    (root / "checkpoint-10" / "weights.bin").write_bytes(b"half of")
    watch.look(scan(root), 20, step=2)
    (root / "state.json").write_text("{2}")
    watch.look(scan(root), 11, step=2)
    due = watch.due(21)
    store.save(root, due.listing, Reported(due.step), due.units)
    restore(storage, tmp_path / "new", before=2, set_aside=True)
    assert (tmp_path / "new/checkpoint-10/weights.bin").read_bytes() == b"ten"
    assert (tmp_path / "new/state.json").read_text() == "{2}"


def test_a_busy_file_is_never_read_for_a_copy(storage, root):
    store, first = store_of(storage), scan(root)
    store.save(root, first, Reported(), units(first))
    (root / "checkpoint-10" / "weights.bin").write_bytes(b"new")
    second = scan(root)
    (root / "state.json").write_text("{2}")  # Under the copy, which sends the weights first.
    assert store.save(root, second, Reported(), units(second)) is None
    (root / "checkpoint-10" / "weights.bin").write_bytes(b"bad")
    quiet = {path: seen for path, seen in scan(root).items() if unit_of(path) == ""}
    old = {path: seen for path, seen in first.items() if unit_of(path) != ""}
    copied = store.save(root, quiet | old, Reported(), {""})
    [weights] = [file for file in copied.files if file.path.endswith("weights.bin")]
    assert storage.read(weights.key) == b"ten"
