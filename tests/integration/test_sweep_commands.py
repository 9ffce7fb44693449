"""The command line drives a sweep on a real API server; the trials' pods are played by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from integration.api_server import Namespace
from integration.conftest import Operator
from integration.test_sweeps import finish, make_sweep, trials

from trainyard import cli


@pytest.fixture
def trainyard(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Called with words; each has to succeed. It works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("KUBECONFIG", str(namespace.api.plane.kubeconfig("admin")))

    def call(*words: str) -> None:
        assert cli.run([*words, "-n", namespace.name]) == 0

    return call


def write(sweep: dict[str, Any]) -> None:
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep))


def test_sweep_is_submitted_suspended_resumed_and_deleted_by_its_name(
    namespace: Namespace, operator: Operator, trainyard: Callable[..., None]
) -> None:
    sweeps = namespace.of("trainingsweeps")
    write(make_sweep(parallelism=1))
    trainyard("submit", "sweep.yaml", "spec.parallelism=2")
    namespace.wait_for_pods("digits-0-master-0", "digits-1-master-0")
    trainyard("suspend", "sweep/digits")
    sweeps.wait_for_phase("digits", "Suspended")
    for number in range(2):
        namespace.wait_for_phase(f"digits-{number}", "Suspended")
    namespace.wait_for_pods()
    assert set(trials(namespace)) == {"digits-0", "digits-1"}
    trainyard("resume", "sweep/digits")
    namespace.wait_for_pods("digits-0-master-0", "digits-1-master-0")
    finish(namespace, "digits-0", 0.5, attempt=2)
    namespace.wait(lambda: "digits-2" in trials(namespace), "the next trial")
    trainyard("get", "sweep/digits")
    trainyard("delete", "sweep/digits", "-y")
    namespace.wait(lambda: not sweeps.exists("digits"), "deleted")


def test_submit_checks_a_change_before_the_sweep_has_it(
    namespace: Namespace,
    operator: Operator,
    trainyard: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweeps = namespace.of("trainingsweeps")
    write(make_sweep())
    trainyard("submit", "sweep.yaml")
    sweeps.wait_for_phase("digits", "Running")
    trainyard("submit", "sweep.yaml", "spec.parallelism=2")
    namespace.wait(lambda: "digits-1" in trials(namespace), "a second trial")
    capsys.readouterr()
    assert cli.run(["submit", "sweep.yaml", "spec.folds=5", "-n", namespace.name]) == 5
    assert "error: spec.folds: was changed in a way that would mix" in capsys.readouterr().err
    assert cli.run(["submit", "sweep.yaml", "spec.seed=1", "-n", namespace.name]) == 5
    assert "seed cannot be changed." in capsys.readouterr().err
    assert sweeps.job("digits")["spec"]["folds"] == 3
    assert sweeps.condition("digits", "Accepted")["status"] == "True"
