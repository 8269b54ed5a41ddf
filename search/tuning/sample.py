"""The distances of strangers and of copies in a sample of images, in bits.

Two images are *strangers* unless pairs of copies connect them (through any number of others) or both belong to one
ignore group. For each query, a corpus of N images is assumed to have the sample's share of strangers at each distance.
The shares are kept for each query, since some images lie in dense regions and others do not.

An image has two kinds of bits: those that its terms are drawn from, and those of its code. Strangers with similar terms
more often have similar codes. So the strangers whose code is nearer than a copy's are counted by the distance of their
term bits. Where nothing else is said, a distance is one of term bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from search.tuning.neighbours import Neighbours, distances_of_pairs, grid_neighbours, pair_neighbours

__all__ = ["AskedPairs", "SampleDistances", "components", "measure_distances"]

MAX_QUERIES = 256
"""The most images that serve as queries."""

MAX_COMPARED = 20_000
"""The most images that each query is compared with."""

MAX_ASKED = 2_048
"""The most pairs of copies that are asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class AskedPairs:
    """Pairs of a query and one of its copies, which a search for the query should return."""

    query: NDArray[np.int32]
    """(pairs,) the row of each pair's query in `SampleDistances.strangers`; rising."""
    distance: NDArray[np.int32]
    """(pairs,) between the two images."""
    nearer_strangers: NDArray[np.float32]
    """(pairs, bits + 1) the share of the compared images that are strangers at each distance and whose code is nearer
    than the copy's; of those with an equally near code, half."""
    nearer_copies: NDArray[np.float32]
    """(pairs, bits + 1) how many other copies of the query at each distance have a nearer code, counted likewise."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleDistances:
    """The counted distances of a sample."""

    bits: int
    images: int
    """The number of images that each query was compared with."""
    strangers: NDArray[np.float64]
    """(queries, bits + 1) the share of the compared images that are strangers at each distance; a row sums up to the
    share of all strangers."""
    copies: NDArray[np.float64]
    """(queries, bits + 1) how many copies of the query are at each distance."""
    asked: AskedPairs
    typical_strangers: NDArray[np.float64]
    """(bits + 1,) the mean of `strangers` over images drawn from the whole sample."""
    typical_copies: NDArray[np.float64]
    """(bits + 1,) the mean number of copies that an image of the sample has at each distance."""


def measure_distances(
    bits: NDArray[np.bool_],
    codes: NDArray[np.bool_],
    pairs: NDArray[np.int64],
    ignored: NDArray[np.int64] | None = None,
    seed: int = 1,
) -> SampleDistances:
    """Counts distances.

    Args:
        bits: (n, bits) of every image of the sample, from which its terms are drawn.
        codes: (n, code bits) of its code, as many as are compared.
        pairs: (p, 2) positions of images that are copies of each other.
        ignored: (n,) the number of each image's ignore group, -1 for none; None: there are none.
        seed: The seed for drawing queries, pairs and compared images.

    Raises:
        BadInputError: There are fewer than two images, no pairs, a pair names an image that is not there, or there is
            not one code for each image.
    """
    _check(len(bits), len(codes), pairs)
    (count, length), rng = bits.shape, np.random.default_rng(seed)
    component = components(count, pairs)
    groups = component, np.full(count, -1) if ignored is None else ignored
    compared, everyone = _some(rng, count, MAX_COMPARED), _some(rng, count, MAX_QUERIES)
    # Either copy may arrive last, so each pair can be asked for from both sides.
    both = np.unique(np.vstack([pairs, pairs[:, ::-1]]), axis=0)
    asking = np.unique(both[:, 0])
    queries = asking[_some(rng, len(asking), MAX_QUERIES)]
    copies = pair_neighbours(bits, codes, queries, both[np.isin(both[:, 0], queries)])
    strangers, typical = (
        grid_neighbours(bits, codes, rows, compared).where(_are_strangers(groups, rows, compared).ravel())
        for rows in (queries, everyone)
    )
    asked = copies.where(_some(rng, len(copies.query), MAX_ASKED))
    return SampleDistances(
        bits=length,
        images=len(compared),
        strangers=strangers.by_distance(len(queries), length) / len(compared),
        copies=copies.by_distance(len(queries), length),
        asked=_with_nearer(asked, copies, strangers, len(compared), length),
        typical_strangers=typical.by_distance(len(everyone), length).mean(axis=0) / len(compared),
        typical_copies=np.bincount(distances_of_pairs(bits, both), minlength=length + 1) / count,
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


def _check(images: int, codes: int, pairs: NDArray[np.int64]) -> None:
    if images < 2 or len(pairs) == 0:
        raise BadInputError(f"a sample needs at least two images and one pair of copies, not {images} and {len(pairs)}")
    if pairs.min() < 0 or pairs.max() >= images or (pairs[:, 0] == pairs[:, 1]).any():
        raise BadInputError(f"a pair must name two different images of the {images} images")
    if codes != images:
        raise BadInputError(f"a sample needs one code for each of its {images} images, not {codes}")


def _some(rng: np.random.Generator, count: int, most: int) -> NDArray[np.int64]:
    """Positions 0 to count - 1, or a random `most` of them, in order."""
    return np.arange(count) if count <= most else np.sort(rng.permutation(count)[:most])


def _are_strangers(
    groups: tuple[NDArray[np.int64], NDArray[np.int64]], queries: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(queries, others), from the component and the ignore group of every image."""
    component, ignored = groups
    mine = ignored[queries][:, np.newaxis]
    apart = component[queries][:, np.newaxis] != component[others]
    strangers: NDArray[np.bool_] = apart & ((mine < 0) | (mine != ignored[others]))
    return strangers


def _with_nearer(asked: Neighbours, copies: Neighbours, strangers: Neighbours, images: int, bits: int) -> AskedPairs:
    """Counts for each pair what has a nearer code than the copy."""
    nearer_strangers, nearer_copies = (np.empty((len(asked.query), bits + 1), np.float32) for _ in range(2))
    each = zip(asked.query.tolist(), asked.distance.tolist(), asked.code_distance.tolist(), strict=True)
    for pair, (query, distance, code_distance) in enumerate(each):
        nearer_strangers[pair] = strangers.nearer_than(query, code_distance, bits)
        nearer_copies[pair] = copies.nearer_than(query, code_distance, bits)
        nearer_copies[pair, distance] -= 0.5  # the copy itself
    return AskedPairs(asked.query, asked.distance, nearer_strangers / np.float32(images), nearer_copies)
