"""FROC against LUNA16's own evaluation, written out by hand, and scikit-learn's curve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard_trainer.recipes.lung_nodule.froc import (
    RATES,
    Floats,
    Froc,
    ScanMarks,
    at_rates,
    bootstrap,
    froc,
    match,
)

scores = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
places = st.tuples(*[st.integers(-6, 6)] * 3)
findings = st.lists(st.tuples(places, st.sampled_from([4.0, 8.0])), max_size=3)


def marks(
    candidates: list[tuple[tuple[int, int, int], float]],
    nodules: list[tuple[tuple[int, int, int], float]],
    irrelevant: list[tuple[tuple[int, int, int], float]],
) -> ScanMarks:
    def table(rows: list[tuple[tuple[int, int, int], float]]) -> Floats:
        return np.array([[*place, value] for place, value in rows], float).reshape(-1, 4)

    return ScanMarks(
        candidates=table(candidates), nodules=table(nodules), irrelevant=table(irrelevant)
    )


scans = st.lists(
    st.builds(marks, st.lists(st.tuples(places, scores), max_size=8), findings, findings),
    min_size=1,
    max_size=4,
)


def by_hand(scans: list[ScanMarks]) -> tuple[list[float], list[float], list[float]]:
    """Labels, probabilities and misses as noduleCADEvaluationLUNA16.py collects them."""
    truth, probability, missed = [], [], []
    for scan in scans:
        left = set(range(len(scan.candidates)))
        for nodule in scan.nodules:
            hits = []
            for number, candidate in enumerate(scan.candidates):
                if ((candidate[:3] - nodule[:3]) ** 2).sum() < (nodule[3] / 2) ** 2:
                    hits.append(candidate[3])
                    left.discard(number)
            truth.append(1.0)
            probability.append(max(hits) if hits else -1e9)
            missed.append(not hits)
        for finding in scan.irrelevant:
            for number, candidate in enumerate(scan.candidates):
                if ((candidate[:3] - finding[:3]) ** 2).sum() < (finding[3] / 2) ** 2:
                    left.discard(number)
        for number in left:
            truth.append(0.0)
            probability.append(scan.candidates[number][3])
            missed.append(False)
    return truth, probability, missed


def luna_score(scans: list[ScanMarks]) -> float:
    """Mean sensitivity at the seven rates, from thresholds tried one by one."""
    truth, probability, _ = (np.array(one) for one in by_hand(scans))
    total = (truth == 1).sum()
    rates, found = [0.0], [0.0]
    for threshold in sorted({p for p in probability if p > -1e9}, reverse=True):
        rates.append(((truth == 0) & (probability >= threshold)).sum() / len(scans))
        found.append(((truth == 1) & (probability >= threshold)).sum() / total)
    return float(np.mean([np.interp(rate, rates, found) for rate in RATES]))


@settings(deadline=None)
@given(scans)
def test_score_is_lunas_written_out_by_hand(scans: list[ScanMarks]) -> None:
    found = froc([match(scan) for scan in scans]).score
    if any(len(scan.nodules) for scan in scans):
        assert found == pytest.approx(luna_score(scans))
    else:
        assert np.isnan(found)


@settings(deadline=None, max_examples=50)
@given(scans)
def test_curve_is_that_of_scikit_learn_as_luna_scales_it(scans: list[ScanMarks]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    truth, probability, missed = (np.array(one) for one in by_hand(scans))
    detected, false = ((truth == 1) & ~missed.astype(bool)).sum(), (truth == 0).sum()
    if not detected or not false:
        return
    kept = ~missed.astype(bool)
    false_rate, true_rate, _ = metrics.roc_curve(truth[kept], probability[kept])
    rates, found = false_rate * false / len(scans), true_rate * detected / (truth == 1).sum()
    curve = froc([match(scan) for scan in scans])
    at = np.linspace(0.01, 8, 50)
    ours, theirs = at_rates(curve.rates, curve.sensitivity, at), np.interp(at, rates, found)
    np.testing.assert_allclose(ours, theirs)


def test_a_hit_lies_nearer_than_half_the_diameter() -> None:
    scan = marks([((0, 0, 2), 0.9), ((0, 0, 1), 0.4)], [((0, 0, 0), 4.0)], [])
    found = match(scan)
    assert (found.hits.tolist(), found.best.tolist()) == ([0.4], [1])
    assert found.false_positives.tolist() == [0.9]


def test_further_hits_on_a_nodule_and_hits_on_irrelevant_findings_are_ignored() -> None:
    scan = marks(
        [((0, 0, 0), 0.5), ((0, 0, 1), 0.9), ((6, 0, 0), 0.8)],
        [((0, 0, 0), 4.0)],
        [((6, 0, 0), 4.0)],
    )
    found = match(scan)
    assert found.hits.tolist() == [0.9]
    assert found.false_positives.tolist() == []


def test_candidates_of_one_scan_are_never_hits_in_another() -> None:
    here = marks([], [((0, 0, 0), 8.0)], [])
    there = marks([((0, 0, 0), 0.9)], [], [])
    curve = froc([match(here), match(there)])
    assert curve.sensitivity.max() == 0
    assert curve.rates.tolist() == [0.0, 0.5]


def test_curve_is_joined_to_the_origin() -> None:
    scan = marks([((0, 0, 0), 0.5), ((5, 5, 5), 0.5)], [((0, 0, 0), 4.0)], [])
    curve = froc([match(scan)])
    assert (curve.rates.tolist(), curve.sensitivity.tolist()) == ([0, 1], [0, 1])
    assert curve.score == pytest.approx(np.mean([0.125, 0.25, 0.5, 1, 1, 1, 1]))


def test_perfect_and_empty_detectors_score_one_and_zero() -> None:
    perfect = marks([((0, 0, 0), 0.5)], [((0, 0, 0), 4.0)], [])
    empty = marks([], [((0, 0, 0), 4.0)], [])
    scores = [froc([match(one)]).score for one in (perfect, empty)]
    assert scores == [1.0, 0.0]


def test_interval_holds_the_score_and_is_the_same_each_time() -> None:
    good = marks([((0, 0, 0), 0.5)], [((0, 0, 0), 4.0)], [])
    poor = marks([((5, 5, 5), 0.7)], [((0, 0, 0), 4.0)], [])
    matches = [match(one) for one in [good] * 6 + [poor] * 4]
    low, high = bootstrap(matches, draws=200)
    assert low < froc(matches).score < high
    assert (low, high) == bootstrap(matches, draws=200)


def test_interval_of_scans_without_nodules_is_unknown() -> None:
    low, high = bootstrap([match(marks([], [], []))], draws=5)
    assert np.isnan(low) and np.isnan(high)


def test_rates_beyond_the_curve_take_its_last_sensitivity() -> None:
    curve = Froc(rates=np.array([0.0, 0.5]), sensitivity=np.array([0.0, 0.6]), score=0.0)
    assert at_rates(curve.rates, curve.sensitivity).tolist() == pytest.approx(
        [0.15, 0.3, 0.6, 0.6, 0.6, 0.6, 0.6]
    )
