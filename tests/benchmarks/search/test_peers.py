"""The exact peers answer as the definition says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.search.corpus import CorpusSettings, Shape, make_corpus, terms_of
from benchmarks.search.peers import BruteForce, Hits, Peer, SparseProduct, Tantivy, top

SHAPE = Shape(24, 10)
TERMS = terms_of(make_corpus(CorpusSettings(3_000, seed=5)).codes, SHAPE)


def by_definition(query: np.ndarray, k: int) -> Hits:
    overlaps = (query == TERMS).sum(axis=1)
    ranked = sorted((-int(overlap), place) for place, overlap in enumerate(overlaps) if overlap)[:k]
    return np.array([place for _, place in ranked]), np.array([-overlap for overlap, _ in ranked])


@pytest.mark.parametrize("name", ["scipy", "numpy", "tantivy"])
@pytest.mark.parametrize("k", [1, 10, 5_000])
def test_each_peer_gives_the_true_top(name: str, k: int, tmp_path: Path) -> None:
    pytest.importorskip("tantivy")
    peers: dict[str, Peer] = {
        "scipy": SparseProduct(TERMS, SHAPE),
        "numpy": BruteForce(TERMS, SHAPE),
    }
    peer = peers.get(name) or Tantivy(TERMS, SHAPE, tmp_path / "tantivy")
    queries = TERMS[::211]
    for query, (places, overlaps) in zip(queries, peer.search(peer.prepare(queries), k), strict=True):
        true_places, true_overlaps = by_definition(query, k)
        assert np.array_equal(overlaps, true_overlaps)
        assert np.array_equal(places, true_places)


def test_top_takes_the_oldest_where_the_overlap_ties() -> None:
    places, overlaps = np.array([9, 4, 7, 1, 3]), np.array([2, 1, 1, 1, 5])
    assert [column.tolist() for column in top(places, overlaps, 3, 5)] == [[3, 9, 1], [5, 2, 1]]
    assert [column.tolist() for column in top(places, overlaps, 2, 5)] == [[3, 9], [5, 2]]
    assert [column.tolist() for column in top(places, overlaps, 9, 5)] == [[3, 9, 1, 4, 7], [5, 2, 1, 1, 1]]
