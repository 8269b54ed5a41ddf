"""A sample's distances: who is a stranger, and every pair counted once."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import BadInputError
from search.tuning.sample import components, measure_distances

BITS = np.random.RandomState(4).random_sample((12, 40)) < 0.5
PAIRS = np.array([[0, 1], [1, 2], [5, 6]])


def test_components_follow_pairs_through_others() -> None:
    found = components(7, PAIRS)
    assert found[0] == found[1] == found[2]
    assert found[5] == found[6] != found[0]
    assert len(set(found.tolist())) == 4


def test_strangers_are_all_but_the_component_and_the_ignore_group() -> None:
    ignored = np.full(12, -1)
    ignored[[5, 9, 10]] = 3
    sample = measure_distances(BITS, PAIRS, ignored)
    # 0, 1 and 2 have 9 strangers, 5 and 6 have 10, the others 11; 5, 9 and 10 leave each other out.
    shares = set(np.rint(sample.strangers.sum(axis=1) * 12).astype(int).tolist())
    assert shares <= {8, 9, 10}
    assert sample.typical_strangers.sum() == pytest.approx((3 * 9 + 8 + 10 + 5 * 11 + 2 * 9) / 144)
    assert sample.images == 12


def test_distances_are_those_of_the_bits() -> None:
    sample = measure_distances(BITS, PAIRS)
    true = [int((BITS[a] != BITS[b]).sum()) for a, b in PAIRS]
    assert sorted(sample.copy_distance.tolist()) == sorted(true)
    everyone = np.zeros(41)
    for row in range(12):
        for other in range(12):
            everyone[(BITS[row] != BITS[other]).sum()] += 1 / 144
    copies = np.bincount(true, minlength=41) * 2 / 144
    alone = np.bincount([0] * 12 + [int((BITS[0] != BITS[2]).sum())] * 2, minlength=41) / 144
    assert sample.typical_strangers == pytest.approx(everyone - copies - alone)
    assert sample.typical_copies == pytest.approx(copies * 12)


@pytest.mark.parametrize(
    "pairs", [np.empty((0, 2), np.int64), np.array([[3, 3]]), np.array([[0, 12]]), np.array([[-1, 2]])]
)
def test_senseless_pairs_are_refused(pairs: np.ndarray) -> None:
    with pytest.raises(BadInputError):
        measure_distances(BITS, pairs)
