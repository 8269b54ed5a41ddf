"""What a sample of images says about a corpus: how far apart strangers and copies lie, in bits.

Two images are *strangers* unless pairs of copies connect them (through any number of others) or both belong to one
ignore group. A corpus of N images is taken to look to each query like the sample, N times over: the share of strangers
at each distance is kept per query, since some images lie in crowds and others do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError

__all__ = ["SampleDistances", "components", "measure_distances"]

MAX_QUERIES = 256
"""Images for which the distances to all others are counted one by one."""

MAX_COMPARED = 20_000
"""Images that each query is compared with."""

_BLOCK = 64


@dataclass(frozen=True, slots=True, eq=False)
class SampleDistances:
    """The distances of a sample, counted."""

    bits: int
    images: int
    """How many images each query was compared with."""
    strangers: NDArray[np.float64]
    """(queries, bits + 1) the share of the compared images that are strangers at each distance; a row adds up to the
    share of strangers among all."""
    copy_query: NDArray[np.int64]
    """Per pair of copies: the row of its query in `strangers`."""
    copy_distance: NDArray[np.int64]
    """Per pair of copies: its distance."""
    typical_strangers: NDArray[np.float64]
    """(bits + 1,) as `strangers`, on average over images drawn from the whole sample."""
    typical_copies: NDArray[np.float64]
    """(bits + 1,) how many copies at each distance an image of the sample has, on average."""


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
        ignored: Per image the number of its ignore group, -1 for none.
        seed: Of the draw of queries where there are more than `MAX_QUERIES`.

    Raises:
        BadInputError: There are fewer than two images, no pairs, or a pair names an image that is not there.
    """
    count, length = bits.shape
    if count < 2 or len(pairs) == 0:
        raise BadInputError(f"a sample needs at least two images and one pair of copies, not {count} and {len(pairs)}")
    if pairs.min() < 0 or pairs.max() >= count or (pairs[:, 0] == pairs[:, 1]).any():
        raise BadInputError(f"pairs must name two different images of the {count} there are")
    rng = np.random.default_rng(seed)
    component = components(count, pairs)
    compared = _some(rng, count, MAX_COMPARED)
    # Each pair is asked from one of its two ends, drawn at random: the later of two copies may be either.
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
    """The component of each of `count` items that pairs connect, named by one of its items (union-find)."""
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
    """Positions 0 to count - 1, or so many of them as are wanted at most; in order."""
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
        # Exact: float32 holds every whole number that can come up here.
        distances = np.rint(mine.sum(axis=1)[:, None] + ones - 2 * (mine @ others.T)).astype(np.int64)
        for row, query in enumerate(block.tolist()):
            strangers = component[compared] != component[query]
            if ignored[query] >= 0:
                strangers &= ignored[compared] != ignored[query]
            counts = np.bincount(distances[row, strangers], minlength=length + 1)
            shares[first + row] = counts / len(compared)
    return shares
