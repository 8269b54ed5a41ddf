"""Ranked candidates equal sorting all images one by one, by shared terms and by distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.ranking import Order, Ranking
from training import candidates
from training.candidates import RankedCandidates, rank_candidates

TERMS = arrays(np.uint32, st.tuples(st.integers(0, 12), st.just(4)), elements=st.integers(0, 2))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Terms, and two bytes of bits for each image; few values, so that ties of all kinds occur."""
    terms = draw(TERMS)
    bits = draw(arrays(np.uint8, (len(terms), 2), elements=st.sampled_from([0, 1, 3, 7, 255])))
    return terms, bits


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    k = draw(st.integers(1, 6))
    return Ranking(
        candidates=k,
        depth=draw(st.integers(k, 12)),
        order=draw(st.sampled_from(Order)),
        min_overlap=draw(st.integers(1, 3)),
        distance_bits=draw(st.sampled_from([0, 8, 16])),
    )


def brute(
    terms: np.ndarray, bits: np.ndarray | None, image: int, ranking: Ranking, earlier_only: bool
) -> list[tuple[int, int, int | None]]:
    """Row, shared terms and distance of every candidate, in order."""
    found = []
    for other in range(len(terms)):
        shared = sum(int(one == two) for one, two in zip(terms[image], terms[other], strict=True))
        if other != image and shared >= ranking.min_overlap and not (earlier_only and other > image):
            found.append((other, shared))
    found.sort(key=lambda one: (-one[1], one[0]))
    if bits is None or ranking.order is Order.OVERLAP:
        return [(other, shared, None) for other, shared in found]
    size = (ranking.distance_bits or 16) // 8

    def distance(other: int) -> int:
        return sum(int(a ^ b).bit_count() for a, b in zip(bits[image][:size], bits[other][:size], strict=True))

    near = [(other, shared, distance(other)) for other, shared in found[: ranking.depth]]
    return sorted(near, key=lambda one: (one[2], -one[1], one[0]))


def listed(ranked: RankedCandidates, image: int) -> list[tuple[int, int, int | None]]:
    rows = ranked.of(image)
    others, overlaps = ranked.others[rows].tolist(), ranked.overlaps[rows].tolist()
    distances = [None] * len(others) if ranked.distances is None else ranked.distances[rows].tolist()
    return list(zip(others, overlaps, distances, strict=True))


@given(worlds(), rankings(), st.none() | st.integers(1, 12), st.booleans(), st.booleans(), st.integers(1, 5))
@settings(deadline=None)
def test_equals_brute_force(
    world: tuple[np.ndarray, np.ndarray],
    ranking: Ranking,
    limit: int | None,
    with_code: bool,
    earlier_only: bool,
    block: int,
) -> None:
    terms, bits = world[0], world[1] if with_code else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_BLOCK", block)
        ranked = rank_candidates(terms, bits, ranking, limit, earlier_only)
    assert len(ranked.starts) == len(terms) + 1
    for image in range(len(terms)):
        expected = brute(terms, bits, image, ranking, earlier_only)
        assert listed(ranked, image) == expected[: limit or ranking.candidates]
        assert (ranked.images[ranked.of(image)] == image).all()


@given(worlds(), rankings(), st.integers(0, 16))
@settings(deadline=None)
def test_a_gate_leaves_the_last_candidates_out(
    world: tuple[np.ndarray, np.ndarray], ranking: Ranking, gate: int
) -> None:
    ranked = rank_candidates(*world, ranking)
    gated = ranked.within(gate)
    for image in range(len(world[0])):
        everyone = listed(ranked, image)
        expected = [one for one in everyone if one[2] is None or one[2] <= gate]
        assert listed(gated, image) == expected == everyone[: len(expected)]
    assert ranked.within(None) is ranked


def test_the_nearest_of_the_first_comes_first() -> None:
    """All share a term with the last; the nearest shares the fewest, and is seen only where the depth reaches it."""
    terms = np.array([[1, 1, 1], [1, 1, 2], [1, 2, 2], [1, 1, 1]], np.uint32)
    bits = np.array([[0b1110], [0b1111], [0b0001], [0b0000]], np.uint8)
    deep = rank_candidates(terms, bits, Ranking(candidates=2, depth=3))
    assert listed(deep, 3) == [(2, 1, 1), (0, 3, 3)]
    shallow = rank_candidates(terms, bits, Ranking(candidates=2, depth=2))
    assert listed(shallow, 3) == [(0, 3, 3), (1, 2, 4)]


def test_terms_of_more_than_sixteen_bits_are_told_apart() -> None:
    terms = np.array([[1], [1 + 2**16], [1]], np.uint32)
    ranked = rank_candidates(terms, None, Ranking(5))
    assert ranked.others[ranked.of(0)].tolist() == [2]
    assert ranked.overlaps[ranked.of(1)].tolist() == []


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_BLOCK", 2)
    told: list[float] = []
    rank_candidates(np.zeros((5, 1), np.uint32), None, Ranking(3), told=told.append)
    assert told == [0.4, 0.8, 1.0]
