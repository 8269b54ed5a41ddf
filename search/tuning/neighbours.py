"""Images beside queries, by two distances: of the bits that terms are drawn from, and of the codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Neighbours", "distances_of_pairs", "grid_neighbours", "pair_neighbours"]

_PAIRS = 65_536
"""Pairs whose differing bits are in memory at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Some images beside each of some queries; every array has one entry per image, by rising query."""

    query: NDArray[np.int32]
    """The query's number."""
    distance: NDArray[np.int32]
    """Between the bits that terms are drawn from."""
    code_distance: NDArray[np.int32]
    """Between the codes."""

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Neighbours:
        """Those of a mask, or of rising positions."""
        return Neighbours(self.query[rows], self.distance[rows], self.code_distance[rows])

    def by_distance(self, queries: int, bits: int) -> NDArray[np.float64]:
        """(queries, bits + 1) how many neighbours each query has at each distance."""
        cells = self.query.astype(np.int64) * (bits + 1) + self.distance
        return np.bincount(cells, minlength=queries * (bits + 1)).reshape(queries, bits + 1).astype(np.float64)

    def nearer_than(self, query: int, code_distance: int, bits: int) -> NDArray[np.float32]:
        """(bits + 1,) how many neighbours of a query at each distance have a nearer code; equally near ones by half."""
        first, last = np.searchsorted(self.query, (query, query + 1))
        codes = self.code_distance[first:last]
        weights = (codes < code_distance) + 0.5 * (codes == code_distance)
        return np.bincount(self.distance[first:last], weights, minlength=bits + 1).astype(np.float32)


def pair_neighbours(
    bits: NDArray[np.bool_], codes: NDArray[np.bool_], queries: NDArray[np.int64], pairs: NDArray[np.int64]
) -> Neighbours:
    """The second image of each pair as a neighbour of the first.

    Args:
        bits: (n, bits) from which terms are drawn.
        codes: (n, code bits).
        queries: Positions of the queries, rising.
        pairs: (p, 2) positions, sorted; the first is a query.
    """
    row = np.searchsorted(queries, pairs[:, 0]).astype(np.int32)
    return Neighbours(row, distances_of_pairs(bits, pairs), distances_of_pairs(codes, pairs))


def grid_neighbours(
    bits: NDArray[np.bool_], codes: NDArray[np.bool_], queries: NDArray[np.int64], others: NDArray[np.int64]
) -> Neighbours:
    """All others as neighbours of each query, in their order: as many as queries times others."""
    row = np.repeat(np.arange(len(queries), dtype=np.int32), len(others))
    return Neighbours(row, _between(bits, queries, others).ravel(), _between(codes, queries, others).ravel())


def distances_of_pairs(bits: NDArray[np.bool_], pairs: NDArray[np.int64]) -> NDArray[np.int32]:
    """How many bits differ between the images of each pair: (pairs,)."""
    found = np.empty(len(pairs), np.int32)
    for first in range(0, len(pairs), _PAIRS):
        some = pairs[first : first + _PAIRS]
        found[first : first + _PAIRS] = (bits[some[:, 0]] != bits[some[:, 1]]).sum(axis=1)
    return found


def _between(bits: NDArray[np.bool_], rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int32]:
    """How many bits differ between images of two kinds: (rows, others)."""
    mine, theirs = bits[rows].astype(np.float32), bits[others].astype(np.float32)
    # Exact: float32 holds every integer that can occur here.
    product = mine.sum(axis=1)[:, np.newaxis] + theirs.sum(axis=1) - 2 * (mine @ theirs.T)
    distances: NDArray[np.int32] = np.rint(product).astype(np.int32)
    return distances
