"""The classifier's inputs for a pair of images: small whole numbers made from their score codes.

The index holds a score code (`search.hashing.score_codes`) for each image: hamming bits, then signed values. The inputs
of a pair are the XOR of the bits (0 or 1 each), then the absolute difference of each value, then the absolute sum of
each value (0 to 256 each). They depend only on the two codes, and their order does not matter. The served graph
computes the same inputs in TensorFlow; the functions here are its reference, and are used in training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import BadInputError

__all__ = ["LARGEST_INPUT", "PairInputs", "as_codes", "hamming_distances", "pair_bits", "unpack_codes"]

LARGEST_INPUT = 256
"""The largest difference or sum of two signed bytes. (No projection gives -128, but a caller may.)"""


@dataclass(frozen=True, slots=True)
class PairInputs:
    """The layout of codes, and which parts of them a network compares."""

    bits: int
    """Hamming bits of a code; a multiple of 8."""
    values: int = 0
    """Signed bytes after the bits."""
    xor: bool = True
    """Whether the bits are compared; differences and sums of the values always are."""

    def __post_init__(self) -> None:
        """Checks that codes fill whole bytes and that something is compared."""
        if self.bits < 8 or self.bits % 8 or self.values < 0:
            raise BadInputError(
                f"a code has a multiple of 8 bits and 0 or more values, not {self.bits} and {self.values}"
            )
        if not self.xor and not self.values:
            raise BadInputError("a network must compare bits or values: it has no inputs")

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.bits // 8 + self.values

    @property
    def size(self) -> int:
        """How many inputs a pair has."""
        return (self.bits if self.xor else 0) + 2 * self.values

    @property
    def largest(self) -> NDArray[np.int64]:
        """The largest value of each input: (size)."""
        return np.repeat(np.array([1, LARGEST_INPUT]), [self.bits if self.xor else 0, 2 * self.values])

    def of(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.int16]:
        """The inputs of pairs of codes (n, code_bytes): (n, size)."""
        split = self.bits // 8
        parts = [pair_bits(left[:, :split], right[:, :split]).astype(np.int16)] if self.xor else []
        if self.values:
            one, other = (
                np.ascontiguousarray(codes[:, split:]).view(np.int8).astype(np.int16) for codes in (left, right)
            )
            parts += [np.abs(one - other), np.abs(one + other)]
        return np.hstack(parts)


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
    """The number of bits in which two codes differ. The last axis holds the bytes; the other axes broadcast."""
    counts: NDArray[np.int64] = np.bitwise_count(np.bitwise_xor(left, right)).sum(axis=-1, dtype=np.int64)
    return counts
