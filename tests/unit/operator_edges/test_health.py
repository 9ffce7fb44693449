"""What the probes say."""

import pytest

from trainyard_operator.health import Health


@pytest.mark.parametrize(
    ("silence", "oldest", "problem"),
    [
        (0, 0, ""),
        (200, 200, ""),
        (241, 0, "the watch of pods has been silent for 241 s"),
        (0, 301, "a job has been waiting for 301 s"),
    ],
)
def test_liveness_fails_when_a_loop_is_stuck(silence: float, oldest: float, problem: str):
    health = Health(missing=list, watch_silence=lambda: silence, oldest_job=lambda: oldest)
    assert health.problem() == problem
