import pytest

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError

SENTENCE = "data: volume 'a.mhd' is truncated; replace it or take it out."


def test_stop_ends_with_the_sentence_of_the_first_bad_sample() -> None:
    with pytest.raises(ConfigurationError) as caught:
        BadData("stop").meet(SENTENCE)
    assert str(caught.value) == SENTENCE


def test_skip_goes_on_counts_and_reports() -> None:
    bad = BadData("skip")
    for _ in range(2):
        bad.meet(SENTENCE)
    assert bad.skipped == [SENTENCE] * 2
    assert bad.report() == f"skipped: 2\n  {SENTENCE}\n  {SENTENCE}\n"


def test_report_says_that_nothing_was_skipped() -> None:
    assert BadData("skip").report() == "skipped: 0\n"
