"""The distances of strangers and of copies in a sample of images, in bits.

Two images are *strangers* unless pairs of copies connect them (through any number of others) or both belong to one
ignore group. For each query, a corpus of N images is assumed to have the sample's share of strangers at each distance.
The shares are kept for each query, since some images lie in dense regions and others do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError

__all__ = ["SampleDistances", "components", "measure_distances"]

MAX_QUERIES = 256
"""The most images that serve as queries."""

MAX_COMPARED = 20_000
"""The most images that each query is compared with."""

_BLOCK = 64


@dataclass(frozen=True, slots=True, eq=False)
class SampleDistances:
    """The counted distances of a sample."""

    bits: int
    images: int
    """The number of images that each query was compared with."""
    strangers: NDArray[np.float64]
    """(queries, bits + 1) the share of the compared images that are strangers at each distance; a row sums up to the
    share of all strangers."""
    copy_query: NDArray[np.int64]
    """(pairs,) the row of each pair's query in `strangers`."""
    copy_distance: NDArray[np.int64]
    """(pairs,) the distance of each pair of copies."""
    typical_strangers: NDArray[np.float64]
    """(bits + 1,) the mean of `strangers` over images drawn from the whole sample."""
    typical_copies: NDArray[np.float64]
    """(bits + 1,) the mean number of copies that an image of the sample has at each distance."""


def measure_distances(
    bits: NDArray[np.bool_],
    pairs: NDArray[np.int64],
    ignored: NDArray[np.int64] | None = None,
    seed: int = 1,
) -> SampleDistances:
    """Counts distances.

    Args:
        bits: (n, bits) of every image of the sample.
        pairs: (p, 2) positions of images that are copies of each other.
        ignored: (n,) the number of each image's ignore group, -1 for none; None: there are none.
        seed: The seed for drawing queries and compared images.

    Raises:
        BadInputError: There are fewer than two images, no pairs, or a pair names an image that is not there.
    """
    count, length = bits.shape
    if count < 2 or len(pairs) == 0:
        raise BadInputError(f"a sample needs at least two images and one pair of copies, not {count} and {len(pairs)}")
    if pairs.min() < 0 or pairs.max() >= count or (pairs[:, 0] == pairs[:, 1]).any():
        raise BadInputError(f"a pair must name two different images of the {count} images")
    rng = np.random.default_rng(seed)
    component = components(count, pairs)
    compared = _some(rng, count, MAX_COMPARED)
    # One image of each pair, drawn at random, is the query, since either copy may arrive last.
    turned = np.where(rng.random(len(pairs))[:, None] < 0.5, pairs, pairs[:, ::-1])
    asking = np.unique(turned[:, 0])
    queries = asking[_some(rng, len(asking), MAX_QUERIES)]
    row_of = np.full(count, -1)
    row_of[queries] = np.arange(len(queries))
    asked = turned[row_of[turned[:, 0]] >= 0]
    groups = (component, np.full(count, -1) if ignored is None else ignored)
    everyone = _some(rng, count, MAX_QUERIES)
    return SampleDistances(
        bits=length,
        images=len(compared),
        strangers=_stranger_shares(bits, queries, compared, groups),
        copy_query=row_of[asked[:, 0]],
        copy_distance=(bits[asked[:, 0]] != bits[asked[:, 1]]).sum(axis=1),
        typical_strangers=_stranger_shares(bits, everyone, compared, groups).mean(axis=0),
        typical_copies=np.bincount((bits[pairs[:, 0]] != bits[pairs[:, 1]]).sum(axis=1), minlength=length + 1)
        * (2 / count),
    )


def components(count: int, pairs: NDArray[np.int64] | Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """The connected component of each of `count` items, named by one of its items (union-find)."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for left, right in np.asarray(pairs).tolist():
        parent[root(left)] = root(right)
    return np.array([root(item) for item in range(count)], np.int64)


def _some(rng: np.random.Generator, count: int, most: int) -> NDArray[np.int64]:
    """Positions 0 to count - 1, or a random `most` of them, in order."""
    return np.arange(count) if count <= most else np.sort(rng.permutation(count)[:most])


def _stranger_shares(
    bits: NDArray[np.bool_],
    queries: NDArray[np.int64],
    compared: NDArray[np.int64],
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.float64]:
    component, ignored = groups
    length = bits.shape[1]
    others = bits[compared].astype(np.float32)
    ones = others.sum(axis=1)
    shares = np.empty((len(queries), length + 1))
    for first in range(0, len(queries), _BLOCK):
        block = queries[first : first + _BLOCK]
        mine = bits[block].astype(np.float32)
        # Exact: float32 holds every integer that can occur here.
        distances = np.rint(mine.sum(axis=1)[:, None] + ones - 2 * (mine @ others.T)).astype(np.int64)
        for row, query in enumerate(block.tolist()):
            strangers = component[compared] != component[query]
            if ignored[query] >= 0:
                strangers &= ignored[compared] != ignored[query]
            counts = np.bincount(distances[row, strangers], minlength=length + 1)
            shares[first + row] = counts / len(compared)
    return shares
