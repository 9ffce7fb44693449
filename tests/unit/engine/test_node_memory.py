"""A run that goes on from the node's memory ends as one that was never interrupted."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from unit.engine.tiny import (
    assert_equal_states,
    manifests_of,
    newest,
    result_of,
    storage_of,
    tiny_rank,
    train,
)

from trainyard_trainer.context import Rank
from trainyard_trainer.manifest import list_manifests
from trainyard_trainer.node_memory import NodeMemory

POLICY = {"everySteps": 1, "keepLast": 99}


def with_memory(rank: Rank, directory: Path) -> Rank:
    run = dataclasses.replace(rank.run, node_memory=directory / "memory")
    return dataclasses.replace(rank, run=run)


def test_resume_from_memory_is_exact(tmp_path: Path) -> None:
    whole = tiny_rank(tmp_path / "a", checkpoint=POLICY)
    train(whole)
    first = with_memory(
        tiny_rank(tmp_path / "b", config={"fail_at": 9}, checkpoint=POLICY), tmp_path
    )
    with pytest.raises(ArithmeticError):
        train(first)
    (held,) = list_manifests(NodeMemory(tmp_path / "memory", "u1").storage).valid
    # Storage loses everything that it ever had; memory is enough.
    storage_of(first).delete([entry.key for entry in storage_of(first).list("checkpoints/")])
    second = with_memory(tiny_rank(tmp_path / "b", checkpoint=POLICY, attempt=2), tmp_path)
    run = train(second)
    assert run._progress.resumed_step == held.step > 0
    one, other = newest(whole), newest(second)
    assert_equal_states(one.state, other.state)
    assert_equal_states(one.rank_state, other.rank_state)
    assert result_of(whole)["metrics"] == result_of(second)["metrics"]
    assert min(m.step for m in manifests_of(second)) > held.step


def test_memory_is_given_back_at_the_end(tmp_path: Path) -> None:
    train(with_memory(tiny_rank(tmp_path), tmp_path))
    assert not any((tmp_path / "memory").iterdir())


@pytest.fixture(autouse=True)
def patient_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failing attempt ends its upload, as a launcher's grace lets it; memory has it by then."""
    from unit.engine.tiny import Tiny

    fate: Any = Tiny.meet_fate

    def meet(self: Any) -> int:
        import threading

        if self.position.step + 1 == self.config.fail_at:
            for thread in threading.enumerate():
                if thread.name == "checkpoint":
                    thread.join()
        step: int = fate(self)
        return step

    monkeypatch.setattr(Tiny, "meet_fate", meet)
