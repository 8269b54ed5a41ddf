"""Predictions agree with what real terms find on the photographs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import exp
from pathlib import Path

import numpy as np
import pytest

from search.hashing.terms import TermSettings
from search.tuning.check import measured_overlaps, measured_recall
from search.tuning.prediction import TermChoice, few_enough, predict
from search.tuning.sample import SampleDistances, measure_distances

FOLDER = Path(__file__).parents[3] / "examples" / "photos"


@cache
def photos() -> tuple[TermSettings, np.ndarray, np.ndarray, SampleDistances]:
    from training.labelled import read_photos

    read = read_photos(FOLDER / "photos.parquet", 1280, 768)
    pairs = np.argwhere(np.triu(read.group_id[:, None] == read.group_id[None], 1))
    centre = np.load(FOLDER / "centres.npz")["signed_sqrt_search"]
    settings = TermSettings(1280, 20_240_501, 1024, groups=64, bits_per_group=16, centre=centre, signed_sqrt=True)
    sample = measure_distances(settings.build().bits(read.search), pairs)
    return settings, read.search, pairs, sample


@pytest.mark.parametrize(("groups", "bits_per_group", "postings"), [(64, 16, 107.7), (128, 10, 1252)])
def test_recall_and_postings_come_as_predicted(groups: int, bits_per_group: int, postings: float) -> None:
    settings, vectors, pairs, sample = photos()
    terms = replace(settings, groups=groups, bits_per_group=bits_per_group).build().terms(vectors)
    touched = sum((np.bincount(column).astype(float) ** 2).sum() for column in terms.T) / len(terms)
    assert touched == pytest.approx(postings, rel=0.01)  # nothing else has changed
    some = pairs[np.random.default_rng(2).permutation(len(pairs))[:1_000]]
    for prediction in predict(sample, len(vectors), groups, bits_per_group, [1, 2], [30, 500]):
        assert prediction.postings == pytest.approx(touched, rel=0.07)
        # 1,000 pairs, but from 115 photographs: pairs of one photograph are found or missed together.
        assert abs(prediction.recall - measured_recall(terms, some, prediction.choice)) < 0.06


def test_a_larger_corpus_hides_copies_behind_strangers() -> None:
    sample = photos()[3]
    small, large = (predict(sample, images, 64, 12, [1], [100])[0] for images in (2_000, 2_000_000))
    assert large.recall < small.recall
    assert large.unrelated_postings == small.unrelated_postings
    assert large.found == pytest.approx(100, abs=0.5)


def test_few_enough_is_the_poisson_distribution() -> None:
    for k in (1, 2, 10, 100):
        for mean in (0.01, 0.5, 1.0, 5.0, 50.0, 120.0):
            term, true = exp(-mean), 0.0
            for count in range(k):
                true += term
                term *= mean / (count + 1)
            assert float(few_enough(np.array([[mean]]), k)[0, 0]) == pytest.approx(true, abs=0.015)


def test_measured_recall_counts_ties_by_age() -> None:
    terms = np.array([[1, 1], [1, 2], [1, 1], [1, 3], [9, 9]], np.uint32)
    everyone = np.array([[0, 2], [0, 3]])
    assert measured_overlaps(terms, everyone).tolist() == [2, 1]
    assert measured_recall(terms, everyone, TermChoice(2, 4, 1, 4)) == 1.0
    assert measured_recall(terms, everyone[:1], TermChoice(2, 4, 1, 1)) == 1.0
    assert measured_recall(terms, everyone[1:], TermChoice(2, 4, 2, 4)) == 0.0
    # From 0 the rivals are 2 (two terms) and 1 (one term, older than 3); from 3 the oldest, 0, comes first.
    seen = {measured_recall(terms, everyone[1:], TermChoice(2, 4, 1, 1), seed) for seed in range(8)}
    assert seen == {0.0, 1.0}
