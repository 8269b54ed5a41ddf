"""Ranked candidates equal sorting all images by shared terms, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training import candidates
from training.candidates import rank_candidates

TERMS = arrays(np.uint32, st.tuples(st.integers(0, 12), st.just(4)), elements=st.integers(0, 2))


def brute(terms: np.ndarray, image: int, limit: int, min_overlap: int, earlier_only: bool) -> list[tuple[int, int]]:
    others = range(image) if earlier_only else [other for other in range(len(terms)) if other != image]
    found = [(int((terms[other] == terms[image]).sum()), other) for other in others]
    found = [one for one in found if one[0] >= min_overlap]
    return [(other, shared) for shared, other in sorted(found, key=lambda one: (-one[0], one[1]))][:limit]


@given(TERMS, st.integers(1, 12), st.integers(1, 3), st.booleans(), st.integers(1, 5))
@settings(deadline=None)
def test_equals_brute_force(terms: np.ndarray, limit: int, min_overlap: int, earlier_only: bool, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_BLOCK", block)
        ranked = rank_candidates(terms, limit, min_overlap, earlier_only)
    assert len(ranked.starts) == len(terms) + 1
    for image in range(len(terms)):
        rows = ranked.of(image)
        found = list(zip(ranked.others[rows].tolist(), ranked.overlaps[rows].tolist(), strict=True))
        assert found == brute(terms, image, limit, min_overlap, earlier_only)
        assert (ranked.images[rows] == image).all()


def test_terms_of_more_than_sixteen_bits_are_told_apart() -> None:
    terms = np.array([[1], [1 + 2**16], [1]], np.uint32)
    ranked = rank_candidates(terms, 5)
    assert ranked.others[ranked.of(0)].tolist() == [2]
    assert ranked.overlaps[ranked.of(1)].tolist() == []


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_BLOCK", 2)
    told: list[float] = []
    rank_candidates(np.zeros((5, 1), np.uint32), 3, told=told.append)
    assert told == [0.4, 0.8, 1.0]
