"""torch.compile under DDP, and resumed."""

from pathlib import Path

import pytest
from unit.engine.gang import run_gangs
from unit.engine.tiny import assert_equal_states, newest, tiny_rank

from trainyard_operator.contract import ExitCode

pytestmark = pytest.mark.slow
SAVING = {"everySteps": 2, "keepLast": 99, "async": False}


def test_compiled_run_learns_the_same_and_goes_on_exactly(tmp_path: Path) -> None:
    plain = {"noise": 0, "dropout": 0, "norm": False}
    compiled = plain | {"training": {"compile": True, "batch_size": 15}}
    common = {"nodes": 2, "checkpoint": SAVING}
    codes, log = run_gangs(
        tmp_path,
        [
            common | {"place": "eager", "config": plain | {"training": {"batch_size": 15}}},
            common | {"place": "a", "config": compiled},
            common | {"place": "b", "config": compiled | {"kill_at": 6}},
            common | {"place": "b", "config": compiled, "attempt": 2},
        ],
    )
    assert codes == [[0, 0], [0, 0], [ExitCode.PEER_LOST, -9], [0, 0]], log
    eager, whole, second = (newest(tiny_rank(tmp_path / place)) for place in ("eager", "a", "b"))
    assert_equal_states(whole.state, second.state)
    for name, weight in eager.state["model"].items():
        assert weight.allclose(whole.state["model"][name], rtol=1e-3, atol=1e-5), name
