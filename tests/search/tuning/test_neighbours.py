"""Neighbours: every distance is the number of differing bits, and only nearer codes are counted."""

from __future__ import annotations

import numpy as np
import pytest

from search.tuning import neighbours
from search.tuning.neighbours import Neighbours, distances_of_pairs, grid_neighbours, pair_neighbours

RANDOM = np.random.RandomState(8)
BITS, CODES = RANDOM.random_sample((9, 40)) < 0.5, RANDOM.random_sample((9, 16)) < 0.3
QUERIES = np.array([1, 4, 8])


def test_a_grid_holds_every_distance() -> None:
    others = np.array([0, 4, 5, 7])
    found = grid_neighbours(BITS, CODES, QUERIES, others)
    true = [
        (row, int((BITS[query] != BITS[other]).sum()), int((CODES[query] != CODES[other]).sum()))
        for row, query in enumerate(QUERIES)
        for other in others
    ]
    assert list(zip(found.query.tolist(), found.distance.tolist(), found.code_distance.tolist(), strict=True)) == true


def test_pairs_give_the_same_as_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_PAIRS", 2)  # more than one round
    grid = grid_neighbours(BITS, CODES, QUERIES, np.arange(9))
    pairs = np.array([[1, 0], [1, 3], [4, 8], [8, 2], [8, 7]])
    found = pair_neighbours(BITS, CODES, QUERIES, pairs)
    rows = np.searchsorted(QUERIES, pairs[:, 0]) * 9 + pairs[:, 1]
    assert found.query.tolist() == [0, 0, 1, 2, 2]
    assert found.distance.tolist() == grid.distance[rows].tolist()
    assert found.code_distance.tolist() == grid.code_distance[rows].tolist()
    assert distances_of_pairs(CODES, pairs).tolist() == found.code_distance.tolist()


def test_only_nearer_codes_of_the_query_are_counted() -> None:
    #                 query 0          query 2
    found = Neighbours(
        np.array([0, 0, 0, 0, 2, 2], np.int32),
        np.array([5, 5, 7, 2, 5, 7], np.int32),
        np.array([1, 4, 3, 9, 0, 0], np.int32),
    )
    assert found.by_distance(3, 8).tolist() == [
        [0, 0, 1, 0, 0, 2, 0, 1, 0],
        [0] * 9,
        [0, 0, 0, 0, 0, 1, 0, 1, 0],
    ]
    assert found.nearer_than(0, 4, 8).tolist() == [0, 0, 0, 0, 0, 1.5, 0, 1, 0]  # one is nearer, one equally near
    assert found.nearer_than(1, 4, 8).tolist() == [0] * 9
    assert found.nearer_than(2, 0, 8).tolist() == [0, 0, 0, 0, 0, 0.5, 0, 0.5, 0]
    some = found.where(np.array([1, 5]))
    assert (some.query.tolist(), some.code_distance.tolist()) == ([0, 2], [4, 0])
