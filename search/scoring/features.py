"""What the classifier sees of two images: the XOR of their packed score codes, unpacked to bits.

A score code is made by `search.projection.CodeSettings` and kept beside each image in the index; the pair's features
depend on the two codes alone and are the same for either order. The served graph does the same XOR and unpacking
inside TensorFlow; the functions here are its plain twin, and feed training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.errors import BadInputError

__all__ = ["as_codes", "hamming_distances", "pair_bits", "unpack_codes"]


def as_codes(codes: ArrayLike, code_bytes: int) -> NDArray[np.uint8]:
    """Checks packed codes: (n, code_bytes) uint8.

    Raises:
        BadInputError: Another type or shape; the message has both.
    """
    rows = np.asarray(codes)
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != code_bytes:
        raise BadInputError(f"codes of shape (n, {code_bytes}) uint8 were expected, not {rows.shape} {rows.dtype}")
    return rows


def unpack_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Packed codes (n, bytes) as bits (n, 8 * bytes) of 0 and 1; the highest bit of a byte comes first."""
    return np.unpackbits(codes, axis=1)


def pair_bits(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bits in which two codes differ, row by row: (n, 8 * bytes) of 0 and 1."""
    return unpack_codes(np.bitwise_xor(left, right))


def hamming_distances(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.int64]:
    """In how many bits two codes differ; the rows broadcast, the last axis holds the bytes."""
    counts: NDArray[np.int64] = np.bitwise_count(np.bitwise_xor(left, right)).sum(axis=-1, dtype=np.int64)
    return counts
