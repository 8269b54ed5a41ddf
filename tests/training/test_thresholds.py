"""Curves, bounds and calibration against direct counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from core.errors import BadInputError
from training.thresholds import calibrate, choose_accept, precision_curve, precision_lower_bound, reliability

SCORED = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40)


def arrays(scored: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = zip(*scored, strict=True)
    return np.array(scores, dtype=np.float32) / 8, np.array(labels)


@given(SCORED, st.integers(-1, 17))
def test_precision_and_recall_are_what_counting_gives(scored: list[tuple[int, bool]], sixteenths: int) -> None:
    scores, is_copy = arrays(scored)
    threshold = sixteenths / 16
    taken = scores >= threshold
    right, copies = int((taken & is_copy).sum()), int(is_copy.sum())
    precision, recall = precision_curve(scores, is_copy).at(threshold)
    assert precision == pytest.approx(right / taken.sum() if taken.any() else 1.0)
    assert recall == pytest.approx(right / copies if copies else 0.0)


@given(SCORED, st.sampled_from([0.5, 0.9, 1.0]))
def test_recall_at_precision_is_the_best_over_all_thresholds(scored: list[tuple[int, bool]], wanted: float) -> None:
    scores, is_copy = arrays(scored)
    curve = precision_curve(scores, is_copy)
    points = [curve.at(float(threshold)) for threshold in np.unique(scores)]
    best = max((recall for precision, recall in points if precision >= wanted), default=0.0)
    assert curve.recall_at_precision(wanted) == pytest.approx(best)


def test_average_precision_of_a_perfect_and_of_a_mixed_ranking() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32)
    assert precision_curve(scores, np.array([True, True, False, False])).average_precision == 1.0
    mixed = precision_curve(scores, np.array([True, False, True, False]))
    assert mixed.average_precision == pytest.approx((1 + 2 / 3) / 2)


def test_the_bound_covers() -> None:
    """A true precision of 0.97: the bound lies above it in about one of twenty samples, not more."""
    taken = np.arange(401)
    chance = binom.pmf(taken, 400, 0.97)
    bound = precision_lower_bound(taken, 400 - taken)
    assert chance[bound > 0.97].sum() < 0.08
    assert (np.diff(bound) > 0).all()


def test_the_bound_grows_with_the_evidence() -> None:
    few, many = precision_lower_bound(np.array([50, 5000]), np.array([0, 0]))
    assert 0.9 < few < many < 1.0
    assert precision_lower_bound(np.array([0]), np.array([0]))[0] == 0.0


def ranked(copies_above: int, wrong: int, copies_below: int) -> tuple[np.ndarray, np.ndarray]:
    count = copies_above + wrong + copies_below
    labels = np.array([True] * copies_above + [False] * wrong + [True] * copies_below)
    return np.linspace(1, 0.5, count, dtype=np.float32), labels


def test_accept_is_the_lowest_threshold_that_keeps_the_precision() -> None:
    scores, labels = ranked(600, 1, 300)
    accept, bound = choose_accept(precision_curve(scores, labels), 0.99)
    assert accept == float(scores[-1])
    assert bound >= 0.99
    scores, labels = ranked(600, 40, 300)
    accept, bound = choose_accept(precision_curve(scores, labels), 0.99)
    assert float(scores[601]) <= accept <= float(scores[599])
    assert bound >= 0.99


def test_a_growing_corpus_asks_for_a_higher_threshold() -> None:
    scores, labels = ranked(600, 3, 600)
    curve = precision_curve(scores, labels)
    assert choose_accept(curve, 0.99, growth=10)[0] > choose_accept(curve, 0.99)[0]


def test_with_too_few_pairs_the_surest_threshold_is_taken_and_the_bound_tells() -> None:
    scores, labels = ranked(30, 5, 10)
    accept, bound = choose_accept(precision_curve(scores, labels), 0.99)
    assert accept == float(scores[29])
    assert bound < 0.99
    with pytest.raises(BadInputError, match="no pairs"):
        choose_accept(precision_curve(np.empty(0, np.float32), np.empty(0, bool)), 0.99)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.2, -3.0), (15.0, 4.0)])
def test_calibration_finds_the_line_that_made_the_labels(slope: float, offset: float) -> None:
    random = np.random.RandomState(0)
    logits = random.standard_normal(40_000) / slope - offset / slope
    labels = random.random_sample(40_000) < 1 / (1 + np.exp(-(slope * logits + offset)))
    found = calibrate(logits, labels)
    assert found.slope == pytest.approx(slope, rel=0.05)
    assert found.offset == pytest.approx(offset, abs=0.15)


def test_reliability_compares_what_was_said_with_what_was_found() -> None:
    scores = np.array([0.0, 0.05, 0.31, 0.39, 0.95, 1.0], dtype=np.float32)
    found = reliability(scores, np.array([False, False, True, False, True, True]))
    np.testing.assert_allclose(found.predicted, [0.025, 0.35, 0.975], atol=1e-6)
    assert found.observed.tolist() == [0.0, 0.5, 1.0]
    assert found.pairs.tolist() == [2, 2, 2]
    assert found.error == pytest.approx((0.025 + 0.15 + 0.025) / 3)
    assert reliability(np.empty(0, np.float32), np.empty(0, bool)).error == 0.0


def test_calibrated_scores_have_no_calibration_error() -> None:
    random = np.random.default_rng(0)
    scores = random.random(50_000).astype(np.float32)
    labels = random.random(50_000) < scores
    assert reliability(scores, labels).error < 0.01
    assert reliability(scores**3, labels).error > 0.1


def test_separable_data_have_a_calibration_too() -> None:
    found = calibrate(np.array([-900.0, -700.0, 600.0, 650.0]), np.array([False, False, True, True]))
    assert 0 < found.slope < 1
    assert np.isfinite(found.offset)


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(BadInputError, match="0 and 2"):
        calibrate(np.array([1.0, 2.0]), np.array([False, False]))
    with pytest.raises(BadInputError, match="do not have higher logits"):
        calibrate(np.array([-3.0, -1.0, 1.0, 3.0]), np.array([True, True, False, False]))
