"""Predictions agree with what real terms and codes find on the photographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import exp
from pathlib import Path

import numpy as np
import pytest

from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.ranking import Order, Ranking
from search.tuning.check import measured_overlaps, measured_recall
from search.tuning.prediction import TermChoice, few_enough, predict
from search.tuning.sample import SampleDistances, measure_distances

FOLDER = Path(__file__).parents[3] / "examples" / "photos"
OVERLAP = Ranking(order=Order.OVERLAP)


@dataclass(frozen=True)
class Photos:
    """The sample of the project, hashed."""

    settings: TermSettings
    vectors: np.ndarray
    bits: np.ndarray
    codes: np.ndarray
    pairs: np.ndarray

    def measured(self, rows: np.ndarray) -> SampleDistances:
        """The distances among some of the images."""
        row_of = np.full(len(self.bits), -1)
        row_of[rows] = np.arange(len(rows))
        pairs = row_of[self.pairs]
        codes = np.unpackbits(self.codes[rows], axis=1).astype(bool)
        return measure_distances(self.bits[rows], codes, pairs[(pairs >= 0).all(axis=1)])


@cache
def photos() -> Photos:
    from training.labelled import read_photos

    read = read_photos(FOLDER / "photos.parquet", 1280, 768)
    pairs = np.argwhere(np.triu(read.group_id[:, None] == read.group_id[None], 1))
    centres = np.load(FOLDER / "centres.npz")
    settings = TermSettings(
        1280,
        20_240_501,
        1024,
        groups=64,
        bits_per_group=16,
        centre=centres["signed_sqrt_search"],
        signed_sqrt=True,
    )
    codes = CodeSettings(768, 1024, 20_240_502, centres["score"]).build().codes(read.score, read.search)
    return Photos(settings, read.search, settings.build().bits(read.search), codes, pairs)


@cache
def sample() -> SampleDistances:
    return photos().measured(np.arange(len(photos().bits)))


@pytest.mark.parametrize(("groups", "bits_per_group", "postings"), [(64, 16, 107.7), (128, 10, 1252)])
def test_recall_and_postings_come_as_predicted(groups: int, bits_per_group: int, postings: float) -> None:
    all_of = photos()
    terms = replace(all_of.settings, groups=groups, bits_per_group=bits_per_group).build().terms(all_of.vectors)
    touched = sum((np.bincount(column).astype(float) ** 2).sum() for column in terms.T) / len(terms)
    assert touched == pytest.approx(postings, rel=0.01)  # nothing else has changed
    some = all_of.pairs[np.random.default_rng(2).permutation(len(all_of.pairs))[:500]]
    rankings = [
        replace(like, min_overlap=least, candidates=k)
        for like in (OVERLAP, Ranking(depth=60), Ranking(depth=500))
        for least, k in ((1, 10), (2, 30), (1, 60))
    ]
    for prediction in predict(sample(), len(terms), groups, bits_per_group, rankings):
        assert prediction.postings == pytest.approx(touched, rel=0.07)
        # 500 pairs, but from 115 photographs: pairs of one photograph are found or missed together.
        measured = measured_recall(terms, all_of.codes, some, prediction.choice)
        assert abs(prediction.recall - measured) < 0.06, prediction.choice


def test_a_quarter_of_the_images_predicts_the_whole() -> None:
    all_of = photos()
    # Each photograph goes with its copies or stays away with them.
    groups = np.arange(len(all_of.bits))
    for left, right in all_of.pairs:
        groups[right] = groups[left]
    quarter = all_of.measured(np.flatnonzero(np.random.default_rng(4).random(len(groups))[groups] < 0.25))
    assert quarter.images < 0.3 * len(groups)
    terms = replace(all_of.settings, groups=128, bits_per_group=10).build().terms(all_of.vectors)
    some = all_of.pairs[np.random.default_rng(2).permutation(len(all_of.pairs))[:500]]
    for prediction in predict(quarter, len(groups), 128, 10, [Ranking(12, 100), Ranking(12, 1000), Ranking(60, 1000)]):
        measured = measured_recall(terms, all_of.codes, some, prediction.choice)
        assert abs(prediction.recall - measured) < 0.12, prediction.choice


def test_a_larger_corpus_hides_copies_behind_strangers() -> None:
    rankings = [replace(OVERLAP, candidates=100), Ranking(candidates=20, depth=1000)]
    small, large = (predict(sample(), images, 64, 12, rankings) for images in (2_000, 2_000_000))
    for few, many in zip(small, large, strict=True):
        assert many.recall < few.recall
        assert many.unrelated_postings == few.unrelated_postings
        assert many.found == pytest.approx(few.choice.ranking.candidates, abs=0.5)
    assert [one.compared for one in large] == [0.0, pytest.approx(1000, abs=1)]


def test_more_depth_and_more_candidates_find_more() -> None:
    depths = predict(sample(), 1_000_000, 128, 12, [Ranking(20, depth) for depth in (20, 100, 1000, 10_000)])
    ks = predict(sample(), 1_000_000, 128, 12, [Ranking(k, 1000) for k in (1, 10, 100, 1000)])
    for found in (depths, ks):
        recalls = [one.recall for one in found]
        assert recalls == sorted(set(recalls))


def test_without_a_choice_to_make_both_orders_find_the_same() -> None:
    # All that are compared are returned, so their order does not matter.
    for k in (50, 1000):
        by_overlap, by_distance = predict(
            sample(), 100_000, 64, 14, [replace(OVERLAP, candidates=k), Ranking(candidates=k, depth=k)]
        )
        # A little more is lost by distance: the numbers of rivals in both stages are drawn apart.
        assert by_overlap.recall - 0.01 < by_distance.recall <= by_overlap.recall


def test_few_enough_is_the_poisson_distribution() -> None:
    for k in (1, 2, 10, 100):
        for mean in (0.01, 0.5, 1.0, 5.0, 50.0, 120.0):
            term, true = exp(-mean), 0.0
            for count in range(k):
                true += term
                term *= mean / (count + 1)
            assert float(few_enough(np.array([[mean]]), k)[0, 0]) == pytest.approx(true, abs=0.015)


def choice(k: int, least: int = 1, **more: int) -> TermChoice:
    """A choice by shared terms alone, or by distance if a depth is given."""
    order = Order.DISTANCE if more else Order.OVERLAP
    return TermChoice(2, 4, Ranking(candidates=k, order=order, min_overlap=least, **more))


def test_measured_recall_counts_ties_by_age() -> None:
    terms = np.array([[1, 1], [1, 2], [1, 1], [1, 3], [9, 9]], np.uint32)
    codes = np.zeros((5, 1), np.uint8)
    everyone = np.array([[0, 2], [0, 3]])
    assert measured_overlaps(terms, everyone).tolist() == [2, 1]
    assert measured_recall(terms, codes, everyone, choice(4)) == 1.0
    assert measured_recall(terms, codes, everyone[:1], choice(1)) == 1.0
    assert measured_recall(terms, codes, everyone[1:], choice(4, least=2)) == 0.0
    # From 0 the rivals are 2 (two terms) and 1 (one term, older than 3); from 3 the oldest, 0, comes first.
    seen = {measured_recall(terms, codes, everyone[1:], choice(1), seed) for seed in range(8)}
    assert seen == {0.0, 1.0}


def test_measured_recall_compares_the_first_by_distance() -> None:
    #                  0       1       2       3       4: 1 and 2 share two terms with 0, 3 and 4 one
    terms = np.array([[1, 1], [1, 1], [1, 1], [1, 3], [1, 4]], np.uint32)
    codes = np.array([[0b000], [0b111], [0b011], [0b000], [0b011]], np.uint8)

    def found(other: int, asked: TermChoice) -> bool:
        # Only searches for 0 count: that for the other image is the same for all seeds.
        seeds = [seed for seed in range(8) if np.random.default_rng(seed).random(1)[0] < 0.5]
        return measured_recall(terms, codes, np.array([[0, other]]), asked, seeds[0]) == 1.0

    assert [found(other, choice(1, depth=4)) for other in (1, 2, 3, 4)] == [False, False, True, False]
    # At equal distances more shared terms come first: 2 before 4.
    assert [found(other, choice(2, depth=4)) for other in (1, 2, 3, 4)] == [False, True, True, False]
    # Among the first three there is no 4, though it is nearer than 1.
    assert [found(other, choice(3, depth=3)) for other in (1, 2, 3, 4)] == [True, True, True, False]
    assert [found(other, choice(2, depth=4, least=2)) for other in (1, 2, 3, 4)] == [True, True, False, False]
    # Of the first 8 bits of longer codes the same: bits beyond are not compared.
    longer = np.hstack([codes, np.arange(5, dtype=np.uint8)[:, None] * 37])
    asked = choice(2, depth=4, distance_bits=8)
    assert measured_recall(terms, longer, np.array([[0, 2]]), asked) == measured_recall(
        terms, codes, np.array([[0, 2]]), choice(2, depth=4)
    )
