"""What a program says of its progress, in each spelling, and what is refused."""

import ast
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trainyard_trainer import program
from trainyard_trainer.program_progress import numbers, parse_kubeflow, parse_progress
from trainyard_trainer.program_report import ProgramReport

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_every_field_of_the_status_can_be_given():
    given = {
        "stage": "full",
        "epoch": 2,
        "epochs": 10,
        "step": 40,
        "steps": 200,
        "percent": 21,
        "samplesPerSecond": 12.5,
        "estimatedCompletionTime": "2026-01-01T13:00:00Z",
        "metrics": {"loss": 0.1234567, "accuracy": "0.5", "note": "no number", "bad": None},
    }
    told = parse_progress(body(**given))
    assert told == given | {"metrics": {"loss": "0.123457", "accuracy": "0.5"}}
    assert numbers(told) == {"loss": 0.123457, "accuracy": 0.5}


def test_the_share_follows_from_the_steps():
    assert parse_progress(body(step=3, steps=4))["percent"] == 75
    assert parse_progress(body(step=9, steps=4))["percent"] == 100
    assert parse_progress(body(step=9)) == {"step": 9}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"[1]", "expected a JSON object"),
        (b"{", "expected a JSON object"),
        (body(setp=1), "unknown key 'setp'; there are "),
        (body(step=-1), "step: expected a number from 0 on"),
        (body(step=True), "step: expected a number from 0 on"),
        (body(step=10**400), "step: expected a number from 0 on"),
        (b'{"step": NaN}', "step: expected a number from 0 on"),
        (body(metrics=[1]), "metrics: expected an object of numbers by name"),
    ],
)
def test_what_is_no_progress_is_refused_in_a_sentence(given: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        parse_progress(given)


def test_what_transformers_posts_at_the_beginning_and_the_end_is_understood():
    begin = {"progressPercentage": 0, "metrics": [{"name": "total_steps", "value": "500"}]}
    assert parse_kubeflow(body(trainerStatus=begin), NOW) == {"percent": 0, "steps": 500}
    end = {"progressPercentage": 100, "estimatedRemainingSeconds": 0, "metrics": []}
    assert parse_kubeflow(body(trainerStatus=end), NOW) == {
        "percent": 100,
        "estimatedCompletionTime": "2026-01-01T12:00:00Z",
    }


@pytest.mark.parametrize(
    "given", [body(), body(trainerStatus=1), body(trainerStatus={"metrics": 1})]
)
def test_what_is_no_status_of_kubeflow_is_refused(given: bytes):
    with pytest.raises(ValueError, match="trainerStatus"):
        parse_kubeflow(given, NOW)


def test_the_supervisor_runs_on_python_3_8_with_nothing_installed():
    source = Path(program.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imports = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imports == {
        "__future__",
        "contextlib",
        "json",
        "os",
        "pathlib",
        "selectors",
        "signal",
        "subprocess",
        "sys",
        "time",
    }


@pytest.fixture
def report(tmp_path: Path) -> ProgramReport:
    return ProgramReport(tmp_path / "report.json", tmp_path / "progress.json", 1, "token")


def test_a_copy_is_labelled_with_what_the_file_said_just_before(report, tmp_path):
    (tmp_path / "progress.json").write_text('{"step": 7}')
    assert report.reported().step == 7


def test_a_mistake_that_a_copy_meets_is_told_once_all_the_same(report, tmp_path):
    (tmp_path / "progress.json").write_text('{"stepp": 7}')
    assert report.reported().step is None
    assert "unknown key 'stepp'" in report.read_file()
    assert report.read_file() is None


def test_the_rest_of_a_half_written_file_counts_within_the_same_tick(report, tmp_path):
    file = tmp_path / "progress.json"
    for text in ('{"st', '{"step": 7}'):
        file.write_text(text)
        os.utime(file, ns=(10**18, 10**18))
        assert report.read_file() is None
    assert report.reported().step == 7
