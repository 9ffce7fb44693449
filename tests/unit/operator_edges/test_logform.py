"""Log lines, and what they say of the job that is looked at."""

import json
import logging
import sys
import time

import pytest

from trainyard_operator.logform import ABOUT, About, JsonFormatter, TextFormatter


def record_of(**extra: object) -> logging.LogRecord:
    fields = {"created": 1767268800.25, "msecs": 250.0, "exc_info": None, **extra}
    record = logging.LogRecord("trainyard_operator", 30, "p", 1, "%s is full", ("disk",), None)
    record.__dict__.update(fields)
    return record


def line_of(**extra: object) -> dict[str, object]:
    return json.loads(JsonFormatter().format(record_of(**extra)))


BASE = {
    "time": "2026-01-01T12:00:00.250+00:00",
    "level": "warning",
    "logger": "trainyard_operator",
    "message": "disk is full",
}


def test_line_about_nothing_names_no_job() -> None:
    assert line_of() == BASE


def test_line_names_job_and_attempt() -> None:
    token = ABOUT.set(About("research", "nodules", 3))
    try:
        assert line_of() == BASE | {"namespace": "research", "job": "nodules", "attempt": 3}
    finally:
        ABOUT.reset(token)


def test_job_without_a_status_has_no_attempt() -> None:
    token = ABOUT.set(About("research", "nodules"))
    try:
        assert line_of() == BASE | {"namespace": "research", "job": "nodules"}
    finally:
        ABOUT.reset(token)


def test_traceback_stays_on_the_line() -> None:
    try:
        raise ValueError("no\nreason")
    except ValueError:
        found = line_of(exc_info=sys.exc_info())
    assert str(found["error"]).endswith("ValueError: no\nreason")


def test_text_tells_the_time_in_utc_wherever_the_operator_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        text = TextFormatter().format(record_of())
    time.tzset()
    assert text == "2026-01-01T12:00:00.250Z WARNING trainyard_operator disk is full"
