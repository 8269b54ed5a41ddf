"""The search of sealed segments beside brute force, on both of its ways, with short and long terms, cut and not.

With 300 groups of 2 bits the lists of a query are longer than the buffer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.types import ImageId, LogPosition
from search.index.builder import IndexBuilder
from search.index.engine import SegmentedIndex
from search.ranking import Ranking, hamming, nearest_first
from tests.search.index.index_oracle import LOG, index_settings

N = 6_000


def skewed(groups: int, bits: int) -> NDArray[np.uint32]:
    """Clusters of copies, some of them exact, among images that share terms by chance."""
    random = np.random.RandomState(groups)
    cluster = random.zipf(1.4, N) % (N // 3)
    terms = random.randint(0, 2**bits, (N // 3, groups))[cluster]
    terms = (terms >> random.randint(0, max(1, bits - 3), terms.shape)).astype(np.uint32)
    changed = random.random_sample(terms.shape) < random.choice([0, 0.05, 0.5], (N, 1))
    terms[changed] = random.randint(0, 2**bits, int(changed.sum()))
    return terms


def built(
    folder: Path,
    terms: NDArray[np.uint32],
    bits: int,
    segment: int,
    ranking: Ranking | None = None,
    codes: NDArray[np.uint8] | None = None,
    max_postings: int = 10**8,
) -> SegmentedIndex:
    codes = np.zeros((N, 2), np.uint8) if codes is None else codes
    settings = index_settings(
        terms.shape[1], bits, code_bytes=codes.shape[1], ranking=ranking, max_postings=max_postings
    )
    with IndexBuilder(folder, settings, segment_entries=segment) as builder:
        for first in range(0, N, segment):
            rows = np.arange(first, min(N, first + segment))
            ids = [ImageId(f"i{row}") for row in rows]
            builder.add(rows, ids, np.ones(len(rows), np.uint64), terms[rows], codes[rows])
        builder.finish(LogPosition(LOG, N - 1, 0))
    return SegmentedIndex(folder, settings, background=False)


@pytest.mark.parametrize(("groups", "bits"), [(16, 8), (40, 2), (64, 16), (12, 24), (300, 10), (300, 2)])
@pytest.mark.parametrize("segment", [N, 700])
def test_ranks_are_those_of_brute_force(tmp_path: Path, groups: int, bits: int, segment: int) -> None:
    terms = skewed(groups, bits)
    index = built(tmp_path / "index", terms, bits, segment)
    random = np.random.RandomState(1)
    hidden = np.zeros(N, np.bool_)
    for turn in range(2):
        rows = random.randint(0, N, 40)
        for k, least, as_of in ((1, 1, None), (100, 1, None), (100, 3, None), (700, 1, N // 2)):
            ranked = index.rank(terms[rows], k, least, as_of)
            for at, row in enumerate(rows.tolist()):
                overlaps = (terms == terms[row]).sum(axis=1)
                overlaps[hidden & (as_of is None)] = 0  # earlier places still see them
                overlaps[as_of or N :] = 0
                order = np.argsort(-overlaps, kind="stable")
                order = order[overlaps[order] >= least]
                size = int(ranked.sizes[at])
                assert ranked.places[at, :size].tolist() == order[:k].tolist()
                assert np.array_equal(ranked.overlaps[at, :size], overlaps[order[:k]])
                assert ranked.exhausted[at] == (len(order) <= k)
        if turn == 0:
            for place in random.randint(0, N, 300).tolist():
                index.hide(place)
                hidden[place] = True
    index.close()


@pytest.mark.parametrize("segment", [N, 700])
@pytest.mark.parametrize("most", [1, 30, 400])
def test_a_cut_search_sees_the_oldest_of_each_list(tmp_path: Path, segment: int, most: int) -> None:
    terms = skewed(16, 8)
    index = built(tmp_path / "index", terms, 8, segment, max_postings=16 * most)
    random = np.random.RandomState(2)
    rows, hidden = random.randint(0, N, 60), np.zeros(N, np.bool_)
    for turn in range(2):
        ranked = index.rank(terms[rows], 50)
        for at, row in enumerate(rows.tolist()):
            same = (terms == terms[row]) & ~hidden[:, None]
            overlaps = (same & (np.cumsum(same, axis=0) <= most)).sum(axis=1)
            order = np.argsort(-overlaps, kind="stable")
            order = order[overlaps[order] > 0]
            assert ranked.places[at, : ranked.sizes[at]].tolist() == order[:50].tolist()
            assert ranked.truncated[at] == bool((same.sum(axis=0) > most).any())
        assert ranked.truncated.any()
        assert most < 400 or not ranked.truncated.all()
        if turn == 0:
            hidden[random.randint(0, N, 600)] = True
            for place in np.flatnonzero(hidden).tolist():
                index.hide(place)
    index.close()


@pytest.mark.parametrize("segment", [N, 700])
def test_a_wave_finds_its_oldest_images_and_cuts_no_others(tmp_path: Path, segment: int) -> None:
    random, most = np.random.RandomState(3), 60
    terms = np.tile(random.randint(0, 4096, 16), (N, 1)).astype(np.uint32)
    terms[np.arange(N), random.randint(0, 16, N)] = random.randint(0, 4096, N)
    ordinary = np.flatnonzero(np.arange(N) % 3 == 0)
    terms[ordinary] = random.randint(0, 4096, (len(ordinary), 16))
    index = built(tmp_path / "index", terms, 12, segment, max_postings=16 * most)
    wave = np.flatnonzero(np.arange(N) % 3 != 0)
    for row in wave[-20:].tolist():
        found = index.rank(terms[None, row], 100)
        assert found.truncated[0]
        assert found.postings[0] <= 16 * most
        assert set(wave[:50].tolist()) <= set(found.places[0].tolist())
    found = index.rank(terms[ordinary[-20:]], 100)
    assert not found.truncated.any()
    assert found.places[:, 0].tolist() == ordinary[-20:].tolist()
    index.close()


@pytest.mark.parametrize(("groups", "bits"), [(16, 8), (300, 2)])
@pytest.mark.parametrize("segment", [N, 700])
def test_the_nearest_of_the_first_are_those_of_brute_force(
    tmp_path: Path, groups: int, bits: int, segment: int
) -> None:
    terms, random = skewed(groups, bits), np.random.RandomState(4)
    codes = random.randint(0, 4, (N, 24)).astype(np.uint8)  # few values, so that distances are often equal
    ranking = Ranking(20, depth=500, distance_bits=136)
    index = built(tmp_path / "index", terms, bits, segment, ranking, codes)
    rows = random.randint(0, N, 40)
    ranked = index.rank(terms[rows], 60, codes=codes[rows])
    assert ranked.distances is not None
    for at, row in enumerate(rows.tolist()):
        overlaps = (terms == terms[row]).sum(axis=1)
        first = np.argsort(-overlaps, kind="stable")[:500]
        first = first[overlaps[first] > 0]
        distances = hamming(codes[first], codes[row].tobytes(), 136)
        order = nearest_first(distances, overlaps[first])[:60]
        size = int(ranked.sizes[at])
        assert ranked.places[at, :size].tolist() == first[order].tolist()
        assert np.array_equal(ranked.distances[at, :size], distances[order])
        assert np.array_equal(ranked.overlaps[at, :size], overlaps[first[order]])
    index.close()
