import pytest

from trainyard_trainer.checkpoint import Retention
from trainyard_trainer.manifest import Best, Manifest, Part, list_manifests
from trainyard_trainer.retention import apply_retention, plan_retention

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
