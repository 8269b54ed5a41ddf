"""From vectors to whole numbers, the factors of the exact products: some rows at a time, which stay in the cache.

A batch of thousands of vectors does not fit into a processor's cache, and each step over it would wait for memory. So
all steps are done with a few rows before the next ones are begun. The products want many rows at once; they follow.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from search.hashing.signed_sqrt import signed_sqrt

__all__ = ["PLANE_NORM", "quantised", "row_blocks"]

PLANE_NORM = 2**12 - 32
"""The largest norm of a hyperplane, and the bound below which a vector is scaled before it is rounded."""

_FINE_BITS = 21
"""A vector is first scaled so that its largest element lies in [2^20, 2^21), and rounded; the rest is integer math."""

_ROWS = 32
"""So many rows of 1,280 float64 take 320 KiB."""

_EXACT_SQUARES = 2048
"""So many squares of at most 2^42 add up to at most 2^53, which float64 holds exactly in any order."""


def row_blocks(rows: int) -> Iterator[slice]:
    """The parts that so many rows are handled in."""
    for start in range(0, rows, _ROWS):
        yield slice(start, min(start + _ROWS, rows))


def quantised(
    rows: NDArray[np.float32], centre: NDArray[np.float64] | None, *, roots: bool = False
) -> NDArray[np.float32]:
    """Vectors as factors of a product: centred, scaled by a power of two, rounded to integers.

    Args:
        rows: (n, dimension), finite.
        centre: (dimension,), subtracted; None: nothing is.
        roots: Whether the signed square roots are taken first, rounded to float32.

    Returns:
        (n, dimension) integers. Each row has a norm below `PLANE_NORM` before it is rounded, and at least half of that
        unless it is zero. It depends on its own vector alone.
    """
    whole = np.empty(rows.shape, np.float32)
    wide = np.empty((min(len(rows), _ROWS), rows.shape[1]), np.float64)
    for part in row_blocks(len(rows)):
        source, target = rows[part], whole[part]
        block = wide[: len(source)]
        if roots:
            signed_sqrt(source, block)
            np.copyto(target, block, casting="same_kind")
            source = target
        np.copyto(block, source)
        if centre is not None:
            np.subtract(block, centre, out=block)
        _round(block)
        np.copyto(target, block, casting="same_kind")
    return whole


def _round(block: NDArray[np.float64]) -> None:
    """Each row times the largest power of two that keeps its norm below `PLANE_NORM`, rounded; zero rows stay zero."""
    largest = np.maximum(block.max(axis=1), -block.min(axis=1))
    _, exponent = np.frexp(largest)
    # A product with a power of two is exact here: the numbers come from float32, so none leaves the range of float64.
    np.multiply(block, np.ldexp(1.0, _FINE_BITS - exponent)[:, None], out=block)
    np.rint(block, out=block)
    halvings = _halvings(_squares(block))
    np.multiply(block, np.ldexp(1.0, -halvings)[:, None], out=block)
    np.rint(block, out=block)


def _squares(whole: NDArray[np.float64]) -> NDArray[np.int64]:
    """The sum of squares of each row of integers of at most 2^21."""
    squares = np.zeros(len(whole), np.int64)
    for start in range(0, whole.shape[1], _EXACT_SQUARES):
        part = whole[:, start : start + _EXACT_SQUARES]
        squares += np.einsum("ij,ij->i", part, part).astype(np.int64)
    return squares


def _halvings(squares: NDArray[np.int64]) -> NDArray[np.int32]:
    """How often a row must be halved so that its norm lies in [PLANE_NORM / 2, PLANE_NORM); 0 for zero rows."""
    bound = PLANE_NORM**2
    # floor(square / 4^h) < bound is the same as square < 4^h * bound, since bound is an integer. The largest element is
    # at least 2^20, so every row except a zero row needs some halvings.
    steps = np.arange(0, 18, dtype=np.int64)
    too_long: NDArray[np.bool_] = (squares[:, None] >> (2 * steps)[None, :]) >= bound
    counted: NDArray[np.int32] = too_long.sum(axis=1, dtype=np.int32)
    return counted
