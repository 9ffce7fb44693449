"""submit, suspend, resume, delete and fetch take sweep/NAME."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from core_sweeps import make_spec, write_sweep_file

from trainyard.errors import NotFound
from trainyard.local.runner import held
from trainyard.state import LocalJob, new_local_job, new_local_sweep
from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.desired import spec_hash
from trainyard_operator.sweep.faults import MIXED
from trainyard_operator.sweep.names import SWEEP_UID_LABEL

STORAGE = {"uri": "s3://bucket/sweeps", "endpoint": "http://s3.example:9000"}
TEMPLATE = {"spec": {"recipe": "classification", "storage": STORAGE}}


class FakeCluster:
    """A namespace with at most one sweep."""

    namespace = "research"

    def __init__(self, spec: dict[str, Any] | None = None, **status: Any) -> None:
        self.sweep = None if spec is None else self._stored({"name": "digits"}, spec, status)
        self.asked: list[str] = []

    def get_sweep(self, name: str) -> dict[str, Any]:
        if self.sweep is None:
            raise NotFound(f"there is no sweep '{name}' in namespace 'research'")
        return copy.deepcopy(self.sweep)

    def apply_sweep(self, manifest: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        status = self.sweep["status"] if self.sweep else {}
        stored = self._stored(manifest["metadata"], manifest["spec"], status)
        if not dry_run:
            self.asked.append("apply")
            self.sweep = stored
        return stored

    def patch_sweep(self, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(f"patch {name} {patch}")
        return self.get_sweep(name)

    def delete_sweep(self, name: str) -> None:
        self.asked.append(f"delete {name}")
        self.sweep = None

    @staticmethod
    def _stored(
        metadata: dict[str, Any], spec: dict[str, Any], status: dict[str, Any]
    ) -> dict[str, Any]:
        metadata = {"namespace": "research", "uid": "u", **metadata}
        return {"metadata": metadata, "spec": spec, "status": status}


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeCluster], FakeCluster]:
    def use(cluster: FakeCluster) -> FakeCluster:
        monkeypatch.setattr("trainyard.cluster.Cluster", lambda *_: cluster)
        monkeypatch.setattr("trainyard.cluster.is_configured", lambda *_: True)
        return cluster

    return use


def write_sweep(**fields: Any) -> dict[str, Any]:
    spec = make_spec(template=TEMPLATE, **fields)
    write_sweep_file(spec)
    return spec


def hash_of(spec: dict[str, Any]) -> str:
    return spec_hash(SweepSpec.model_validate(spec))


@pytest.mark.parametrize(("verb", "wanted"), [("suspend", True), ("resume", False)])
def test_verb_sets_suspend_of_the_sweep(trainyard, use, verb: str, wanted: bool) -> None:
    cluster = use(FakeCluster(make_spec(), phase="Running"))
    ran = trainyard(verb, "sweep/digits")
    assert (ran.code, ran.out) == (0, "sweep/digits\n")
    assert cluster.asked == [f"patch digits {{'spec': {{'runPolicy': {{'suspend': {wanted}}}}}}}"]


@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_sweep_that_has_ended_is_neither_suspended_nor_resumed(trainyard, use, verb: str) -> None:
    cluster = use(FakeCluster(make_spec(), phase="Succeeded"))
    ran = trainyard(verb, "sweep/digits")
    assert (ran.code, cluster.asked) == (1, [])
    assert "error: digits has succeeded already" in ran.err
    assert "trainyard get sweep/digits" in ran.err


def test_delete_takes_the_sweep_and_tells_how_its_best_trial_is_read(trainyard, use) -> None:
    best = {"number": 2, "name": "fold-2", "job": "digits-2", "value": 0.9}
    cluster = use(FakeCluster(make_spec(template=TEMPLATE), phase="Succeeded", best=best))
    assert trainyard("delete", "sweep/digits").code == 2
    assert cluster.asked == []
    ran = trainyard("delete", "sweep/digits", "-y")
    assert (ran.code, ran.out, cluster.asked) == (0, "sweep/digits\n", ["delete digits"])
    trials = "s3://bucket/sweeps/research/digits/u/trials"
    assert ran.err.splitlines() == [
        f"what digits stored stays at {trials}; read it with:",
        f"trainyard fetch digits-2 --storage {trials} --endpoint http://s3.example:9000 "
        "-n research",
    ]


def test_submit_sends_a_sweep_with_what_was_typed(trainyard, use) -> None:
    cluster = use(FakeCluster())
    write_sweep()
    words = ("spec.parallelism=3", "training.epochs=2", "--name", "other")
    ran = trainyard("submit", "sweep.yaml", *words)
    assert (ran.code, ran.out) == (0, "sweep/other\n")
    assert cluster.sweep is not None
    spec = cluster.sweep["spec"]
    assert (cluster.sweep["metadata"]["name"], spec["parallelism"]) == ("other", 3)
    assert spec["template"]["spec"]["overrides"] == ["training.epochs=2"]


def test_submit_makes_a_sweep_of_a_job_and_a_guides_file(trainyard, use) -> None:
    cluster = use(FakeCluster())
    guide = {
        "method": "random",
        "metric": {"name": "val_f1_score", "goal": "maximize"},
        "parameters": {"training.learning_rate": {"values": [0.1, 0.2]}},
        "run_cap": 2,
    }
    Path("guide.yaml").write_text(yaml.safe_dump(guide))
    ran = trainyard("submit", "skin-lesion", "--sweep", "guide.yaml", "model=efficientnet")
    assert (ran.code, ran.out) == (0, "sweep/skin-lesion\n")
    assert cluster.sweep is not None
    assert cluster.sweep["spec"]["maxTrials"] == 2


def test_submit_of_what_the_recipe_does_not_have_names_the_nearest_key(trainyard, use) -> None:
    cluster = use(FakeCluster())
    write_sweep(method="grid", parameters={"training.learning_rte": {"values": [1]}})
    ran = trainyard("submit", "sweep.yaml")
    assert (ran.code, cluster.asked) == (5, [])
    assert ran.err == (
        "error: sweep.yaml:11:5: spec.parameters.training.learning_rte: unknown key "
        "'learning_rte'; did you mean 'learning_rate'?\n"
    )


def test_submit_of_a_change_that_would_mix_results_leaves_the_sweep_as_it_is(
    trainyard, use
) -> None:
    before = write_sweep(folds=3)
    cluster = use(FakeCluster(before, phase="Running", specHash=hash_of(before)))
    write_sweep(folds=4)
    ran = trainyard("submit", "sweep.yaml")
    assert (ran.code, cluster.asked) == (5, [])
    assert f"error: spec.folds: {MIXED.rstrip('.')}" in ran.err
    write_sweep(folds=3, parallelism=2)
    assert trainyard("submit", "sweep.yaml").code == 0
    assert cluster.asked == ["apply"]


def test_submit_over_a_sweep_that_has_ended_needs_replace(trainyard, use) -> None:
    cluster = use(FakeCluster(write_sweep(), phase="Failed"))
    ran = trainyard("submit", "sweep.yaml")
    assert (ran.code, cluster.asked) == (5, [])
    assert "'digits' has already failed, and a sweep that has ended never goes on" in ran.err
    assert trainyard("submit", "sweep.yaml", "--replace").code == 0
    assert cluster.asked == ["delete digits", "apply"]


def test_watch_of_a_sweep_that_was_refused_ends_with_why(trainyard, use) -> None:
    refused = {"type": "Accepted", "status": "False", "reason": "NotAccepted", "message": "Bad."}
    conditions = [refused | {"lastTransitionTime": "2026-01-01T12:00:00Z"}]
    use(FakeCluster(make_spec(), phase="Pending", conditions=conditions))
    ran = trainyard("watch", "sweep/digits")
    assert ran.code == 5
    assert "error: Bad." in ran.err


@pytest.mark.parametrize("words", [("logs",), ("logs", "-f")])
def test_command_that_takes_one_job_asks_for_a_trial(trainyard, use, words) -> None:
    use(FakeCluster(make_spec(), phase="Running"))
    ran = trainyard(*words, "sweep/digits")
    assert ran.code == 2
    assert "error: sweep 'digits' is many jobs, and this command takes one of its" in ran.err


def test_fetch_best_is_the_default_and_contradicts_another_checkpoint(trainyard, use) -> None:
    use(FakeCluster(make_spec(), phase="Running"))
    assert "no trial of digits has a result yet" in trainyard("fetch", "sweep/digits", "--best").err
    ran = trainyard("fetch", "sweep/digits", "latest", "--best")
    assert ran.code == 2
    assert "--best and latest ask for two checkpoints; write one of them" in ran.err


# Of this machine


def keep_local_sweep(storage: Path, **status: Any) -> Path:
    """As a runner that has ended left it, with one trial; returns where its report lies."""
    template = {"spec": {"command": ["train"], "storage": {"uri": storage.as_uri()}}}
    metadata = {"name": "tiny", "namespace": "default", "uid": "u"}
    note = {"trainyard.dev/run-target": "sweep.yaml --storage runs"}
    local = new_local_sweep("tiny", "u")
    spec = make_spec(template=template)
    local.save({"metadata": metadata | {"annotations": note}, "spec": spec, "status": status})
    trial = {"name": "tiny-0", "uid": "t", "labels": {SWEEP_UID_LABEL: "u"}}
    new_local_job("tiny-0", "t").save({"metadata": trial, "spec": template["spec"], "status": {}})
    new_local_job("other", "o").save({"metadata": {"name": "other", "uid": "o"}, "status": {}})
    return storage / "default" / "tiny" / "u" / "report"


def test_sweep_of_this_machine_is_listed_and_told_of(trainyard, tmp_path: Path) -> None:
    keep_local_sweep(tmp_path, phase="Suspended", display={"trials": "1/3"})
    assert trainyard("get", "sweeps").out.splitlines()[1].split() == [
        "tiny",
        "Suspended",
        "folds",
        "1/3",
    ]
    assert trainyard("get", "sweep/tiny").code == 0
    ran = trainyard("watch", "sweep/tiny")
    assert ran.code == 11
    assert "error: tiny is suspended" in ran.err
    assert "trainyard run sweep.yaml --storage runs" in ran.err


def test_sweep_whose_runner_was_killed_is_abandoned(trainyard, tmp_path: Path) -> None:
    keep_local_sweep(tmp_path, phase="Running")
    assert "Abandoned" in trainyard("get", "sweep/tiny").out
    ran = trainyard("resume", "sweep/tiny")
    assert ran.code == 1
    assert ran.err == (
        "error: tiny is a run of this machine; run it again with the same command\n"
        "help: trainyard run sweep.yaml --storage runs\n"
    )


def test_sweep_whose_runner_was_killed_says_how_to_go_on(trainyard, tmp_path: Path) -> None:
    keep_local_sweep(tmp_path, phase="Running")
    assert trainyard("get", "sweep/tiny").out.splitlines()[-2:] == [
        "its runner on this machine ended before the sweep did",
        "next:  trainyard run sweep.yaml --storage runs",
    ]
    listed = trainyard("get", "sweeps").err
    assert listed == (
        "Abandoned: its runner on this machine ended first; next: trainyard run sweep.yaml "
        "--storage runs\n"
    )
    assert listed.rpartition("; ")[0] in trainyard("get").err
    keep_local_sweep(tmp_path, phase="Suspended")
    told = trainyard("get", "sweep/tiny").out.splitlines()[-1]
    assert told == "next:  trainyard run sweep.yaml --storage runs"


def test_sweep_of_this_machine_that_has_ended_is_not_resumed(trainyard, tmp_path: Path) -> None:
    keep_local_sweep(tmp_path, phase="Succeeded")
    ran = trainyard("resume", "sweep/tiny")
    assert (ran.code, ran.err) == (
        1,
        "error: tiny has succeeded already\nhelp: trainyard get sweep/tiny\n",
    )


def keep_earlier_sweep() -> LocalJob:
    """A run of tiny before the one that keep_local_sweep keeps, with a trial of the same name."""
    local = new_local_sweep("tiny", "before")
    metadata = {"name": "tiny", "uid": "before"}
    local.save({"metadata": metadata, "spec": make_spec(), "status": {"phase": "Suspended"}})
    trial = {"name": "tiny-0", "uid": "t0", "labels": {SWEEP_UID_LABEL: "before"}}
    new_local_job("tiny-0", "t0").save({"metadata": trial, "status": {}})
    return local


def test_delete_takes_every_run_of_the_name(trainyard, tmp_path: Path) -> None:
    keep_earlier_sweep()
    keep_local_sweep(tmp_path, phase="Succeeded")
    ran = trainyard("delete", "sweep/tiny", "-y")
    assert (ran.code, ran.out) == (0, "sweep/tiny\n")
    assert ran.err.splitlines()[-1] == "deleted 1 run before it, too; what they stored stays"
    assert "there is no sweep 'tiny'" in trainyard("get", "sweep/tiny").err
    assert (trainyard("get", "tiny-0").code, trainyard("get", "other").code) == (3, 0)


def test_delete_leaves_all_where_an_earlier_run_is_at_work(trainyard, tmp_path: Path) -> None:
    earlier = keep_earlier_sweep()
    keep_local_sweep(tmp_path, phase="Succeeded")
    with held(earlier):
        ran = trainyard("delete", "sweep/tiny", "-y")
        pid = earlier.runner_pid
    assert (ran.code, ran.err) == (
        1,
        f"error: tiny still runs on this machine, process {pid}\nhelp: kill {pid}\n",
    )
    assert "Succeeded" in trainyard("get", "sweep/tiny").out


def test_delete_of_a_job_takes_every_run_of_the_name(trainyard) -> None:
    for uid in ("a", "b", "c"):
        new_local_job("job", uid).save({"metadata": {"name": "job", "uid": uid}, "status": {}})
    new_local_job("other", "o").save({"metadata": {"name": "other", "uid": "o"}, "status": {}})
    ran = trainyard("delete", "job", "-y")
    assert (ran.out, ran.err) == (
        "job\n",
        "deleted 2 runs before it, too; what they stored stays\n",
    )
    assert (trainyard("get", "job").code, trainyard("get", "other").code) == (3, 0)
    ran = trainyard("delete", "", "-y")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: '' names no job; write its name")
    assert trainyard("get", "other").code == 0


def test_sweep_of_this_machine_is_forgotten_with_its_trials(trainyard, tmp_path: Path) -> None:
    keep_local_sweep(tmp_path, phase="Succeeded")
    assert trainyard("delete", "sweep/tiny", "-y").code == 0
    assert "no sweeps yet" in trainyard("get", "sweeps").err
    assert trainyard("get", "tiny-0").code == 3
    assert trainyard("get", "other").code == 0


def test_report_of_a_sweep_is_fetched_by_its_name(trainyard, tmp_path: Path) -> None:
    folder = keep_local_sweep(tmp_path / "runs", phase="Succeeded")
    ran = trainyard("fetch", "sweep/tiny", "--what", "report")
    assert ran.code == 3
    assert "error: 'tiny' has stored no report yet" in ran.err
    folder.mkdir(parents=True)
    for name in ("trials.csv", "report.md", "report.html"):
        (folder / name).write_text(name)
    ran = trainyard("fetch", "sweep/tiny", "--what", "report")
    assert (ran.code, ran.out) == (0, "tiny/report.html\n")
    assert Path("tiny/trials.csv").read_text() == "trials.csv"
