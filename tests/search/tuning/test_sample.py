"""A sample's distances: who is a stranger, and every pair counted once from each side."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import BadInputError
from search.tuning import sample as sampling
from search.tuning.sample import components, measure_distances

RANDOM = np.random.RandomState(4)
BITS, CODES = RANDOM.random_sample((12, 40)) < 0.5, RANDOM.random_sample((12, 24)) < 0.5
PAIRS = np.array([[0, 1], [1, 2], [5, 6]])
ASKED = [(0, 1), (1, 0), (1, 2), (2, 1), (5, 6), (6, 5)]
QUERIES = [0, 1, 2, 5, 6]


def test_components_follow_pairs_through_others() -> None:
    found = components(7, PAIRS)
    assert found[0] == found[1] == found[2]
    assert found[5] == found[6] != found[0]
    assert len(set(found.tolist())) == 4


def test_strangers_are_all_but_the_component_and_the_ignore_group() -> None:
    ignored = np.full(12, -1)
    ignored[[5, 9, 10]] = 3
    sample = measure_distances(BITS, CODES, PAIRS, ignored)
    # 0, 1 and 2 have 9 strangers, 5 and 6 have 10, the others 11; 5, 9 and 10 leave each other out.
    assert np.rint(sample.strangers.sum(axis=1) * 12).tolist() == [9, 9, 9, 8, 10]
    assert sample.typical_strangers.sum() == pytest.approx((3 * 9 + 8 + 10 + 5 * 11 + 2 * 9) / 144)
    assert sample.images == 12


def test_distances_are_those_of_the_bits() -> None:
    sample = measure_distances(BITS, CODES, PAIRS)
    true = [int((BITS[a] != BITS[b]).sum()) for a, b in ASKED]
    assert sample.asked.distance.tolist() == true
    assert [QUERIES[row] for row in sample.asked.query] == [a for a, _ in ASKED]
    assert sample.copies.sum(axis=1).tolist() == [1, 2, 1, 1, 1]
    assert sample.copies.sum(axis=0).tolist() == np.bincount(true, minlength=41).tolist()
    everyone = np.zeros(41)
    for row in range(12):
        for other in range(12):
            everyone[(BITS[row] != BITS[other]).sum()] += 1 / 144
    copies = np.bincount(true, minlength=41) / 144
    alone = np.bincount([0] * 12 + [int((BITS[0] != BITS[2]).sum())] * 2, minlength=41) / 144
    assert sample.typical_strangers == pytest.approx(everyone - copies - alone)
    assert sample.typical_copies == pytest.approx(copies * 12)


def test_nearer_codes_are_counted_by_the_distance_of_the_bits() -> None:
    sample = measure_distances(BITS, CODES, PAIRS)
    component = components(12, PAIRS)
    for pair, (query, copy) in enumerate(ASKED):
        limit = (CODES[query] != CODES[copy]).sum()
        strangers, copies = np.zeros(41), np.zeros(41)
        for other in range(12):
            code = (CODES[query] != CODES[other]).sum()
            counts = 1.0 if code < limit else 0.5 if code == limit else 0.0
            distance = (BITS[query] != BITS[other]).sum()
            if component[other] != component[query]:
                strangers[distance] += counts / 12
            elif (query, other) in ASKED and other != copy:
                copies[distance] += counts
        assert sample.asked.nearer_strangers[pair] == pytest.approx(strangers)
        assert sample.asked.nearer_copies[pair] == pytest.approx(copies)


def test_a_pair_that_is_named_twice_counts_once() -> None:
    once, twice = (measure_distances(BITS, CODES, pairs) for pairs in (PAIRS, np.vstack([PAIRS, PAIRS[:, ::-1]])))
    assert twice.asked.distance.tolist() == once.asked.distance.tolist()
    assert twice.typical_copies.tolist() == once.typical_copies.tolist()


def test_at_most_so_many_pairs_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_ASKED", 4)
    sample = measure_distances(BITS, CODES, PAIRS)
    assert sample.asked.nearer_copies.shape == sample.asked.nearer_strangers.shape == (4, 41)
    assert sample.copies.sum() == 6  # all copies remain rivals


@pytest.mark.parametrize(
    "pairs", [np.empty((0, 2), np.int64), np.array([[3, 3]]), np.array([[0, 12]]), np.array([[-1, 2]])]
)
def test_senseless_pairs_are_refused(pairs: np.ndarray) -> None:
    with pytest.raises(BadInputError):
        measure_distances(BITS, CODES, pairs)


def test_every_image_needs_a_code() -> None:
    with pytest.raises(BadInputError, match="not 11"):
        measure_distances(BITS, CODES[:11], PAIRS)
