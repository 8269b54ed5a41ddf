"""Checks a prediction: what a choice finds on the sample itself, counted with real terms and codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.ranking import Order, Ranking, hamming, nearest_first
from search.tuning.prediction import TermChoice

__all__ = ["measured_overlaps", "measured_recall"]


def measured_recall(
    terms: NDArray[np.unsignedinteger[Any]],
    codes: NDArray[np.uint8],
    pairs: NDArray[np.int64],
    choice: TermChoice,
    seed: int = 1,
) -> float:
    """The share of pairs for which an exact search for one image of the pair returns the other.

    Args:
        terms: (n, groups) of every image, in order of age.
        codes: (n, bytes) of every image, the bits of its code without the values that may follow them.
        pairs: (p, 2) positions of copies.
        choice: The ranking; its groups and bits are those of the terms.
        seed: Decides for each pair which of the two is searched for.
    """
    ranking = choice.ranking.for_codes(codes.shape[1] * 8)
    turned = np.random.default_rng(seed).random(len(pairs))[:, None] < 0.5
    asked = np.where(turned, pairs, pairs[:, ::-1])
    asked = asked[np.argsort(asked[:, 0], kind="stable")]
    queries, starts = np.unique(asked[:, 0], return_index=True)
    found = 0
    for query, wanted in zip(queries.tolist(), np.split(asked[:, 1], starts[1:]), strict=True):
        overlaps = (terms == terms[query]).sum(axis=1)
        overlaps[query] = 0
        found += int(np.isin(wanted, _first_page(overlaps, codes, codes[query], ranking)).sum())
    return found / len(asked)


def measured_overlaps(terms: NDArray[np.uint32], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many terms the images of each pair share."""
    overlaps: NDArray[np.int64] = (terms[pairs[:, 0]] == terms[pairs[:, 1]]).sum(axis=1)
    return overlaps


def _first_page(
    overlaps: NDArray[np.int64], codes: NDArray[np.uint8], code: NDArray[np.uint8], ranking: Ranking
) -> NDArray[np.int64]:
    """The candidates of a query, from the terms that it shares with every image."""
    by_distance = ranking.order is Order.DISTANCE
    # Highest overlap first, then oldest: a stable sort keeps the order of age.
    best = np.argsort(-overlaps, kind="stable")[: ranking.depth if by_distance else ranking.candidates]
    first: NDArray[np.int64] = best[overlaps[best] >= ranking.min_overlap]
    if by_distance:
        distances = hamming(codes[first], code.tobytes(), ranking.distance_bits)
        first = first[nearest_first(distances, overlaps[first])][: ranking.candidates]
    return first
