"""Commands know a sweep as sweep/NAME."""

from collections.abc import Callable
from typing import Any

import pytest

from trainyard.commands.compare import expanded
from trainyard.options import Settings

SPEC = {"method": "folds", "template": {"spec": {"recipe": "classification"}}}


class FakeCluster:
    """One sweep, which may go on from one look to the next."""

    namespace = "research"

    def __init__(self, *looks: dict[str, Any]) -> None:
        self.looks = list(looks)

    def get_sweep(self, name: str) -> dict[str, Any]:
        status = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        metadata = {"name": name, "namespace": "research", "uid": "u"}
        return {"metadata": metadata, "spec": SPEC, "status": status}

    def list_sweeps(self, *, everywhere: bool = False) -> list[dict[str, Any]]:
        return [self.get_sweep("digits")]


def look(phase: str, message: str = "", done: int = 0) -> dict[str, Any]:
    holds = {"type": phase, "status": "True", "reason": phase, "message": message}
    rows = [
        {
            "number": number,
            "name": f"fold {number}",
            "job": f"digits-{number}",
            "phase": "Succeeded" if number < done else "Running",
            "value": 0.9 + number / 100 if number < done else None,
            "fold": number,
        }
        for number in range(2)
    ]
    best = {"number": 1, "name": "fold 1", "job": "digits-1", "value": 0.91}
    return {
        "phase": phase,
        "trials": [{k: v for k, v in row.items() if v is not None} for row in rows],
        "conditions": [holds | {"lastTransitionTime": "2026-01-01T12:00:00Z"}],
        "display": {"trials": f"{done}/2", "best": "0.91 (digits-1)" if done else ""},
        **({"best": best} if done else {}),
    }


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeCluster]:
    def use(*looks: dict[str, Any]) -> FakeCluster:
        cluster = FakeCluster(*looks)
        monkeypatch.setattr("trainyard.cluster.Cluster", lambda *_: cluster)
        monkeypatch.setattr("trainyard.cluster.is_configured", lambda *_: True)
        monkeypatch.setattr("trainyard.sweeps.POLL_SECONDS", 0.0)
        return cluster

    return use


def test_get_tells_of_the_sweep_and_its_trials(trainyard, use) -> None:
    use(look("Succeeded", "Done.", done=2))
    ran = trainyard("get", "sweep/digits")
    assert ran.code == 0
    assert [line.split() for line in ran.out.splitlines()] == [
        ["NAME", "PHASE", "METHOD", "TRIALS", "BEST"],
        ["digits", "Succeeded", "folds", "2/2", "0.91", "(digits-1)"],
        ["TRIAL", "JOB", "PHASE", "VALUE"],
        ["fold", "0", "digits-0", "Succeeded", "0.9"],
        ["fold", "1", "digits-1", "Succeeded", "0.91"],
        ["Done."],
        ["next:", "trainyard", "fetch", "sweep/digits"],
    ]


def test_get_lists_sweeps(trainyard, use) -> None:
    use(look("Running", done=1))
    assert trainyard("get", "sweeps").out.splitlines()[1].split()[:4] == [
        "digits",
        "Running",
        "folds",
        "1/2",
    ]


@pytest.mark.parametrize(("phase", "code"), [("Succeeded", 0), ("Failed", 10), ("Suspended", 11)])
def test_watch_ends_with_the_sweep_and_its_exit_code(trainyard, use, phase: str, code: int) -> None:
    use(look("Running"), look("Running", done=1), look(phase, "Why.", done=2))
    ran = trainyard("watch", "sweep/digits")
    assert ran.code == code
    assert [line.split("  ")[3] for line in ran.out.splitlines()[:3]] == ["0/2", "1/2", "2/2"]


def test_fetch_before_any_trial_has_a_result_says_so(trainyard, use) -> None:
    use(look("Running"))
    ran = trainyard("fetch", "sweep/digits")
    assert ran.code == 3
    assert "error: no trial of digits has a result yet" in ran.err


def test_compare_takes_the_trials_that_succeeded(use) -> None:
    use(look("Running", done=1))
    found = expanded(Settings(), ["other", "sweep/digits"])
    assert [job for _, job in found.jobs] == ["other", "digits-0"]
