import pytest

from trainyard_trainer.checkpoint import Retention
from trainyard_trainer.manifest import Best, Manifest, Part, list_manifests
from trainyard_trainer.retention import apply_retention, plan_retention, plan_sweep

LOSS = Best(metric="loss")


def make_manifest(step: int, attempt: int = 1, loss: float | None = None) -> Manifest:
    prefix = f"checkpoints/step-{step:012d}-a{attempt}"
    return Manifest(
        job="j",
        namespace="n",
        uid="u",
        attempt=attempt,
        step=step,
        epoch=0,
        world_size=1,
        created_at="2026-01-01T00:00:00Z",
        metrics={} if loss is None else {"loss": loss},
        parts=(Part(key=f"{prefix}/model.pt", size_bytes=0, sha256="0" * 64, rank=0),),
    )


CASES = [
    ("fewer than asked for", [1, 2], Retention(last=3), None, []),
    ("the newest are kept", [1, 2, 3, 4], Retention(last=2), None, [1, 2]),
    (
        "the best is kept too",
        [(1, 0.5), (2, 0.1), (3, 0.4)],
        Retention(last=1, best=LOSS),
        None,
        [1],
    ),
    ("the best may be the newest", [(1, 0.5), (2, 0.1)], Retention(last=1, best=LOSS), None, [1]),
    ("no metric, no best", [1, 2], Retention(last=1, best=LOSS), None, [1]),
    ("the resume source is kept", [1, 2, 3], Retention(last=1), 1, [2]),
    (
        "the first of each 10 steps is kept",
        [3, 9, 11, 14, 20, 27, 45, 48],
        Retention(last=1, every_steps=10),
        None,
        [3, 9, 14, 27],
    ),
]


@pytest.mark.parametrize(
    ("have", "keep", "resumed", "gone"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_retention_keeps_the_right_set(have, keep, resumed, gone):
    made = [make_manifest(i) if isinstance(i, int) else make_manifest(i[0], 1, i[1]) for i in have]
    prefix = make_manifest(resumed).prefix if resumed else None
    doomed = plan_retention(made[::-1], keep, attempt=1, resumed=prefix)
    assert [manifest.step for manifest in doomed] == gone


def test_a_replaced_attempt_deletes_nothing():
    manifests = [make_manifest(3, attempt=2), make_manifest(2), make_manifest(1)]
    assert plan_retention(manifests, Retention(last=1), attempt=1, resumed=None) == []
    assert len(plan_retention(manifests, Retention(last=1), attempt=2, resumed=None)) == 2


def test_a_manifest_is_deleted_before_its_parts():
    class Recorder:
        def __init__(self):
            self.calls = []

        def delete(self, keys):
            self.calls.append(list(keys))

    recorder = Recorder()
    apply_retention(recorder, [make_manifest(1)])
    prefix = "checkpoints/step-000000000001-a1"
    assert recorder.calls == [[f"{prefix}/manifest.json"], [f"{prefix}/model.pt"]]


def test_keeping_nothing_is_refused():
    with pytest.raises(ValueError, match=r"spec\.checkpoint\.keepLast: 0 keeps nothing"):
        Retention(last=0)


def test_the_resume_source_outlives_the_attempt_that_used_it(make_checkpointer, save, storage):
    save(make_checkpointer(), 1)
    resumed = make_checkpointer(attempt=2, keep=Retention(last=1))
    resumed.load_latest()
    for step in (2, 3, 4):
        save(resumed, step)
    assert [m.step for m in list_manifests(storage).valid] == [4, 1]
    assert {entry.key for entry in storage.list("checkpoints/step-000000000002")} == set()


def place(step: int, attempt: int) -> str:
    return f"checkpoints/step-{step:012d}-a{attempt}"


def test_a_milestone_stays_one_as_the_run_goes_on():
    keep, have = Retention(last=2, every_steps=100), []
    for step in range(7, 1000, 30):
        have.insert(0, make_manifest(step))
        doomed = plan_retention(have, keep, attempt=1, resumed=None)
        have = [manifest for manifest in have if manifest not in doomed]
    steps = [manifest.step for manifest in reversed(have)]
    assert steps == [127, 217, 307, 427, 517, 607, 727, 817, 907, 967, 997]


def test_parts_without_a_manifest_are_swept():
    keys = [
        f"{place(1, 1)}/manifest.json",
        f"{place(1, 1)}/model.pt",
        f"{place(2, 1)}/model.pt",
        f"{place(2, 1)}/part-1.pt",
        f"{place(3, 2)}/model.pt",
        f"{place(4, 3)}/model.pt",
        f"{place(5, 1)}/model.pt",
        f"quarantine/{place(5, 1).removeprefix('checkpoints/')}/manifest.json",
        "checkpoints/latest.json",
        "checkpoints/notes.txt",
    ]
    assert plan_sweep(keys, attempt=2) == {
        place(2, 1): [f"{place(2, 1)}/model.pt", f"{place(2, 1)}/part-1.pt"],
        place(3, 2): [f"{place(3, 2)}/model.pt"],
    }


@pytest.mark.parametrize("attempt", [1, 2])
def test_what_a_failed_save_left_goes_with_the_next(
    make_checkpointer, save, dying, storage, attempt
):
    """Be it this attempt's own, or one that is over."""
    broken = dying(storage, 10**9)
    checkpointer = make_checkpointer(storage=broken)
    save(checkpointer, 1)
    broken.budget = 2 * broken.changes - 2
    assert not save(checkpointer, 2)
    left = {entry.key.rpartition("/")[2] for entry in storage.list(place(2, 1))}
    assert left == {"model.pt", "part-0.pt"}
    broken.budget = 10**9
    if attempt == 2:
        checkpointer = make_checkpointer(attempt=2)
        checkpointer.load_latest()
    assert save(checkpointer, 3)
    assert list(storage.list(place(2, 1))) == []
    assert [m.step for m in list_manifests(storage).valid] == [3, 1]


def test_a_listing_that_lags_costs_no_checkpoint(make_checkpointer, save, storage):
    save(make_checkpointer(), 1)
    hidden = f"{place(1, 1)}/manifest.json"

    class Lagging:
        def __getattr__(self, name):
            return getattr(storage, name)

        def list(self, prefix=""):
            return (entry for entry in storage.list(prefix) if entry.key != hidden)

    save(make_checkpointer(attempt=2, storage=Lagging()), 2)
    assert [m.step for m in list_manifests(storage).valid] == [2, 1]
    assert storage.exists(f"{place(1, 1)}/model.pt")


class ReadsNoted:
    """A storage that writes down which manifests are read."""

    def __init__(self, storage):
        self._storage, self.read_keys = storage, []

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def read(self, key):
        if key.endswith("/manifest.json"):
            self.read_keys.append(key)
        return self._storage.read(key)


def test_a_save_reads_no_manifest_again(make_checkpointer, save, storage):
    noted = ReadsNoted(storage)
    checkpointer = make_checkpointer(storage=noted, keep=Retention(last=3))
    for step in range(1, 6):
        save(checkpointer, step)
    assert noted.read_keys == []
    assert [m.step for m in list_manifests(storage).valid] == [5, 4, 3]


def test_what_came_from_elsewhere_is_read_and_then_known(make_checkpointer, save, storage):
    save(make_checkpointer(attempt=1), 1)
    noted = ReadsNoted(storage)
    resumed = make_checkpointer(attempt=2, storage=noted, keep=Retention(last=2))
    resumed.load_latest()
    noted.read_keys.clear()
    save(resumed, 2)
    assert noted.read_keys == []
    save(make_checkpointer(attempt=3), 9)
    save(resumed, 3)
    assert noted.read_keys == [f"{place(9, 3)}/manifest.json"]
    assert resumed.kept == 4  # A newer attempt is there: this one deletes nothing.


def test_next_attempt_sees_what_was_altered_meanwhile(make_checkpointer, save, storage):
    checkpointer = make_checkpointer()
    save(checkpointer, 1)
    save(checkpointer, 2)
    key = f"{place(2, 1)}/manifest.json"
    storage.write(key, storage.read(key).replace(b'"epoch":1', b'"epoch":7'))
    loaded = make_checkpointer(attempt=2).load_latest()
    assert loaded.manifest.step == 1
    assert "differs from its own digest" in loaded.warning
