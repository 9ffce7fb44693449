"""What operator, trainer and client agree on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard_operator import contract, layout
from trainyard_operator.contract import Cause, ExitCode, Report, RunRequest, Summary

SHORT = Summary(exit_code=1, message="rank 1: bad", cause=Cause.USER_EXIT, rank=1, log_tail=["a"])
REPORT = {"attempt": 1, "time": "2026-01-01T12:00:00Z", "progress": {"step": 7}}


def test_a_summary_survives_its_journey():
    assert Summary.from_json(SHORT.to_json()) == SHORT


@settings(max_examples=15, deadline=None)
@given(
    message=st.text(max_size=90).map(lambda text: text * 50),
    tail=st.lists(st.text(max_size=50).map(lambda text: text * 9), max_size=12),
    report=st.none() | st.dictionaries(st.text(), st.text().map(lambda text: text * 99)),
)
def test_any_summary_fits_into_a_termination_message(message, tail, report):
    summary = Summary(exit_code=1, message=message, log_tail=tail, report=report)
    written = summary.to_json().encode()
    assert len(written) <= contract.TERMINATION_BYTES
    read = Summary.from_json(written)
    assert (read.exit_code, message.startswith(read.message)) == (1, True)


def test_the_log_tail_is_cut_first_then_the_message_then_the_report():
    lines = [f"{n:0400}" for n in range(20)]
    summary = Summary(exit_code=1, message="m" * 900, log_tail=lines, report=REPORT)
    cut = Summary.from_json(summary.to_json())
    assert cut.log_tail == lines[-len(cut.log_tail) :]
    assert (cut.message, cut.report) == ("m" * 900, REPORT)
    wordy = Summary(exit_code=1, message="m" * 9000, log_tail=lines, report=REPORT)
    cut = Summary.from_json(wordy.to_json())
    assert (cut.log_tail, cut.report) == ([], REPORT)
    assert 300 <= len(cut.message) < 4096
    huge = Summary(exit_code=1, message="m" * 200, report={"metrics": "x" * 5000})
    assert Summary.from_json(huge.to_json()) == Summary(exit_code=1, message="m" * 200)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "3", "{}", '{"message": "x"}'])
def test_what_is_no_summary_is_refused(text):
    with pytest.raises(ValueError):
        Summary.from_json(text)


def test_a_report_ignores_what_only_a_newer_trainer_knows():
    assert Report.from_json('{"attempt": 1, "time": "t", "invented": 2}') == Report(
        attempt=1, time="t"
    )


def test_a_run_request_travels_as_text_that_does_not_vary():
    request = RunRequest(recipe="classification", config={"b": 1, "a": 2})
    assert RunRequest.from_json(request.to_json()) == request
    assert request.to_json() == RunRequest(
        recipe="classification", config={"a": 2, "b": 1}
    ).to_json()  # fmt: skip
    with pytest.raises(TypeError):
        RunRequest.from_json('{"recipe": "a", "invented": 1}')


def test_everything_of_a_run_has_one_place():
    assert layout.run_prefix("research", "nodules", "uid") == "research/nodules/uid"
    assert layout.checkpoint_prefix(6000, 2) == "checkpoints/step-000000006000-a2"
    assert layout.log_prefix(2, 5) == "logs/a2/rank-5"
    first, later = layout.event_file(2, 13), layout.event_file(11, 0)
    assert first == "tensorboard/events.out.tfevents.000002.000013.trainyard"
    assert first < later
    assert layout.metrics_piece(2, 1, 8) == "metrics/a2/000001-000008.csv"


def test_exit_codes_and_causes_are_frozen():
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "CHECKPOINTED": 75,
        "PEER_LOST": 76,
        "CONFIGURATION": 78,
    }
    assert {"UserExit", "OutOfMemory", "Stalled"} == contract.USER_CAUSES
    assert {"ConfigurationError", "StartupDeadline", "DeadlineExceeded"} == contract.FATAL_CAUSES
