"""Killed, a run ends bit for bit like one that never was; `make chaos` does it more thoroughly."""

import pytest
from chaos import job
from chaos.depot import Folders
from chaos.schedule import pick
from chaos.trial import Case, Court

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("case", "kinds"),
    [
        (Case("digits", 1, 2, "file"), ["launcher", "resume", "upload", "order"]),
        (Case("gan", 1, 1, "file"), ["rank", "order", "memory", "resume", "final"]),
    ],
)
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path, case, kinds):
    verdict = Court(tmp_path, {"file": Folders()}).judge(case, pick(case.seed, job.STEPS, kinds))
    assert verdict.found == []
    assert [blow.kill.kind for blow in verdict.outcome.blows] == kinds
    assert verdict.attempts == len(kinds) + 1
    assert verdict.outcome.repeated_steps > 0
