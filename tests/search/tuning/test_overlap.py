"""Whole distributions agree with the curves for one distance."""

from __future__ import annotations

import numpy as np
import pytest

from search.hashing.terms import TermSettings, found_probability, same_term_probability
from search.tuning.overlap import overlap_at_least, overlap_distribution, same_term_curve


@pytest.mark.parametrize("bits_per_group", [1, 7, 24])
def test_one_group_agrees_with_the_scalar_curve(bits_per_group: int) -> None:
    curve = same_term_curve(60, bits_per_group)
    assert curve == pytest.approx([same_term_probability(60, bits_per_group, distance) for distance in range(61)])


@pytest.mark.parametrize(("groups", "min_overlap"), [(1, 1), (9, 1), (9, 4), (9, 9), (200, 3)])
def test_enough_terms_agree_with_the_scalar_curve(groups: int, min_overlap: int) -> None:
    chosen = TermSettings(24, seed=1, bits=60, groups=groups, bits_per_group=7)
    found = overlap_at_least(overlap_distribution(60, groups, 7))[:, min_overlap]
    assert found == pytest.approx(
        [found_probability(chosen, distance, min_overlap) for distance in range(61)], abs=1e-12
    )


def test_each_row_is_a_distribution() -> None:
    chances = overlap_distribution(40, 30, 5)
    assert chances.sum(axis=1) == pytest.approx(np.ones(41))
    assert chances[0].tolist() == [0.0] * 30 + [1.0]
    assert chances[40].tolist() == [1.0] + [0.0] * 30
