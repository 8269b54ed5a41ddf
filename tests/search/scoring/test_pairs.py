"""Training pairs: all copies, hard different ones, and never a pair that is neither."""

from __future__ import annotations

import numpy as np

from search.scoring.features import hamming_distances
from search.scoring.pairs import MiningSettings, TrainingPairs, mine_pairs

GROUPS = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6])
IGNORE = np.array([-1, -1, -1, -1, -1, 7, 7, 7, -1, -1])


def mined(settings: MiningSettings, seed: int = 0) -> TrainingPairs:
    random = np.random.RandomState(3)
    terms = random.randint(0, 3, (len(GROUPS), 16)).astype(np.uint32)
    codes = random.randint(0, 256, (len(GROUPS), 4)).astype(np.uint8)
    return mine_pairs(GROUPS, IGNORE, terms, codes, settings, np.random.default_rng(seed))


def test_all_copies_are_taken_once() -> None:
    pairs = mined(MiningSettings())
    assert sorted(map(tuple, pairs.copies.tolist())) == [(0, 1), (0, 2), (1, 2), (3, 4)]


def test_different_pairs_are_different_and_not_ignored() -> None:
    different = mined(MiningSettings(by_overlap=9, by_distance=9, at_random=50)).different
    left, right = different.T
    assert (GROUPS[left] != GROUPS[right]).all()
    assert not ((IGNORE[left] == 7) & (IGNORE[right] == 7)).any()


def test_the_nearest_codes_are_among_them() -> None:
    pairs = mined(MiningSettings(by_overlap=0, by_distance=1, at_random=0))
    distance = hamming_distances(pairs.codes[:, None], pairs.codes[None]).astype(float)
    for image in range(len(GROUPS)):
        apart = (GROUPS[image] != GROUPS) & ((IGNORE[image] != IGNORE) | (IGNORE[image] < 0))
        nearest = distance[image][apart].min()
        chosen = pairs.different[pairs.different[:, 0] == image, 1]
        assert [distance[image, other] for other in chosen] == [nearest]


def test_those_that_share_most_terms_are_among_them() -> None:
    pairs = mined(MiningSettings(by_overlap=2, by_distance=0, at_random=0))
    counts = np.bincount(pairs.different[:, 0], minlength=len(GROUPS))
    assert (counts == 2).all()


def test_the_random_ones_follow_the_seed() -> None:
    settings = MiningSettings(by_overlap=0, by_distance=0, at_random=5)
    np.testing.assert_array_equal(mined(settings, 4).different, mined(settings, 4).different)
    assert mined(settings, 4).different.tolist() != mined(settings, 5).different.tolist()


def test_xor_is_of_the_pairs_codes() -> None:
    pairs = mined(MiningSettings())
    left, right = pairs.copies.T
    np.testing.assert_array_equal(pairs.xor(pairs.copies), pairs.codes[left] ^ pairs.codes[right])
