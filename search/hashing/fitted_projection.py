"""Fitted projections: a vector's values along directions in which copies agree and look-alikes do not.

Random hyperplanes (`search.hashing.projection`) weigh all directions alike. A fitted projection is learnt from labelled
copies (`neardup train FOLDER --fit-projection`), so a few values say more than many random bits. It belongs to the
codes, not to a model: like the centre it is fixed for a signal, and later models share it.

A value is an integer from -127 to 127. It is exact: the same on any machine, in any batch, with any BLAS. The steps:

- the signed square root in float64, which IEEE 754 rounds correctly (`search.hashing.signed_sqrt` says why);
- minus the centre, times 2^12, rounded, clipped to +-2^20: an integer;
- times the weights, integers below 2^15. Every partial sum of at most 2^14 products stays below 2^49, which float64
  holds exactly, so the order of the additions does not matter;
- divided by 2^shift, which is exact, rounded to the nearest integer, clipped to +-127.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import BadInputError, SettingsError
from core.files import replacing
from search.hashing.projection import MAX_DIMENSION, checked_rows
from search.hashing.quantising import row_blocks
from search.hashing.signed_sqrt import signed_sqrt

__all__ = ["MAX_VALUES", "FittedProjection", "read_projection", "write_projection"]

MAX_VALUES = 4096
"""The most values of one image."""

_LIMIT = 127
_FINE_BITS = 12
_LARGEST = 2**20
_FORMAT = b"neardup-fitted-projection-1"


@dataclass(frozen=True, eq=False, slots=True)
class FittedProjection:
    """Weights and centre; immutable, may be shared between threads."""

    centre: NDArray[np.float32]
    """(dimension,), subtracted from the signed square roots of a vector's elements."""
    weights: NDArray[np.int16] = field(repr=False)
    """(dimension, values)"""
    shift: int
    """Sums are divided by 2^shift."""
    _blocks: tuple[tuple[slice, NDArray[np.float64]], ...] = field(init=False, repr=False)
    """The product in one block, or in two where each half of the values uses its own rows: rows and weights."""
    _shifted: NDArray[np.float64] = field(init=False, repr=False)
    """The centre in the type of the roots."""

    def __post_init__(self) -> None:
        """Checks shapes, types and ranges."""
        if self.weights.dtype != np.int16 or self.weights.ndim != 2:
            raise SettingsError(
                f"weights must have the shape (dimension, values) and type int16, not {self.weights.shape} "
                f"{self.weights.dtype}"
            )
        dimension, values = self.weights.shape
        if not 2 <= dimension <= MAX_DIMENSION or not 1 <= values <= MAX_VALUES:
            raise SettingsError(
                f"a fitted projection takes 2 to {MAX_DIMENSION} elements and gives 1 to {MAX_VALUES} values, not "
                f"{dimension} and {values}"
            )
        if self.centre.shape != (dimension,) or self.centre.dtype != np.float32:
            raise SettingsError(f"the centre is {self.centre.shape} {self.centre.dtype}, not ({dimension},) float32")
        if not np.isfinite(self.centre).all():
            raise SettingsError("the centre of a fitted projection holds a value that is not finite")
        if not 0 <= self.shift <= 48:
            raise SettingsError(f"the shift of a fitted projection must lie in 0 to 48, not {self.shift}")
        object.__setattr__(self, "_blocks", _blocks(self.weights))
        object.__setattr__(self, "_shifted", self.centre.astype(np.float64))

    def __reduce__(self) -> tuple[type[FittedProjection], tuple[NDArray[np.float32], NDArray[np.int16], int]]:
        """Pickles without the derived blocks."""
        return type(self), (self.centre, self.weights, self.shift)

    @property
    def dimension(self) -> int:
        """Elements of a vector."""
        return int(self.weights.shape[0])

    @property
    def size(self) -> int:
        """Values of a vector, a byte each."""
        return int(self.weights.shape[1])

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything that a value depends on."""
        digest = hashlib.sha256(_FORMAT)
        digest.update(f"{self.dimension} {self.size} {self.shift}".encode())
        digest.update(self.centre.astype("<f4").tobytes())
        digest.update(self.weights.astype("<i2").tobytes())
        return digest.hexdigest()

    def values(self, *vectors: ArrayLike) -> NDArray[np.int8]:
        """The values of vectors.

        Args:
            vectors: (n, dimension), float16 or float32; n may be 0. Or several arrays of n rows, which stand beside
                each other: together they have `dimension` columns.

        Returns:
            (n, values) int8; each row depends on its own vector alone.

        Raises:
            BadInputError: The shape does not fit, or a value is not finite (the message names the row).
        """
        whole = self._whole([np.asarray(part, np.float32) for part in vectors])
        sums = np.empty((len(whole), self.size), np.float64)
        first = 0
        for rows, weights in self._blocks:
            last = first + weights.shape[1]
            np.matmul(whole[:, rows], weights, out=sums[:, first:last])
            first = last
        np.multiply(sums, 2.0**-self.shift, out=sums)
        np.rint(sums, out=sums)
        np.clip(sums, -_LIMIT, _LIMIT, out=sums)
        return sums.astype(np.int8)

    def _whole(self, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Vectors as factors of the product: roots, centred, integers in float64; see `row_blocks`."""
        if {part.ndim for part in parts} != {2} or sum(part.shape[1] for part in parts) != self.dimension:
            shapes = " and ".join(str(part.shape) for part in parts)
            raise BadInputError(f"vectors must have the shape (n, {self.dimension}), not {shapes}")
        checked = [checked_rows(part, part.shape[1]) for part in parts]
        whole = np.empty((len(checked[0]), self.dimension), np.float64)
        for rows in row_blocks(len(whole)):
            block, first = whole[rows], 0
            for part in checked:
                signed_sqrt(part[rows], block[:, first : first + part.shape[1]])
                first += part.shape[1]
            np.subtract(block, self._shifted, out=block)
            np.multiply(block, 2.0**_FINE_BITS, out=block)
            np.rint(block, out=block)
            np.clip(block, -_LARGEST, _LARGEST, out=block)
        return whole

    @classmethod
    def fitted(
        cls, centre: NDArray[np.float32], weights: NDArray[np.float32], typical: float, typical_value: float = 32.0
    ) -> FittedProjection:
        """Rounds learnt weights.

        Args:
            centre: The mean of the signed square roots.
            weights: (dimension, values), floats.
            typical: The root mean square of the values that the weights give.
            typical_value: The wanted root mean square after rounding, met up to a factor of two. A larger one clips
                more values, a smaller one rounds more coarsely.

        Raises:
            SettingsError: The weights are all zero or not finite.
        """
        largest = float(np.abs(weights).max(initial=0.0))
        if not (np.isfinite(largest) and largest > 0 and typical > 0):
            raise SettingsError(f"weights of at most {largest} and values of {typical} make no projection")
        bits = int(np.floor(np.log2((2**15 - 1) / largest)))
        whole = np.rint(np.ldexp(weights.astype(np.float64), bits)).astype(np.int16)
        shift = round(_FINE_BITS + bits - np.log2(typical_value / typical))
        return cls(np.array(centre, dtype=np.float32), whole, max(0, shift))

    @property
    def matrix(self) -> NDArray[np.float32]:
        """(dimension, values): the factors that turn centred signed square roots into values before rounding."""
        return np.ldexp(self.weights.astype(np.float32), _FINE_BITS - self.shift)


def _blocks(weights: NDArray[np.int16]) -> tuple[tuple[slice, NDArray[np.float64]], ...]:
    """Splits the product if the two halves of the values use different elements: two blocks, a quarter of the size
    each."""
    dimension, values = weights.shape
    first, second = (half.any(axis=1) for half in (weights[:, : values // 2], weights[:, values // 2 :]))
    split = int(np.argmax(second))
    if not split or first[split:].any():
        return ((slice(0, dimension), _factors(weights)),)
    upper, lower = weights[:split, : values // 2], weights[split:, values // 2 :]
    return (slice(0, split), _factors(upper)), (slice(split, dimension), _factors(lower))


def _factors(weights: NDArray[np.int16]) -> NDArray[np.float64]:
    """Weights whose values lie together, which BLAS packs faster (see `Hyperplanes.columns`)."""
    return np.asfortranarray(weights, np.float64)


def read_projection(path: Path) -> FittedProjection:
    """Reads a projection from an .npz file with the arrays `centre`, `weights` and `shift`.

    Raises:
        BadInputError: It cannot be read, or lacks an array.
        SettingsError: Its arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            centre, weights, shift = arrays["centre"], arrays["weights"], int(arrays["shift"])
    except (OSError, ValueError, KeyError, EOFError, TypeError) as error:
        raise BadInputError(f"no fitted projection in {path}: {error}") from error
    return FittedProjection(centre, weights, shift)


def write_projection(projection: FittedProjection, path: Path) -> None:
    """Writes a projection for `read_projection`, atomically."""
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez_compressed(
            file, centre=projection.centre, weights=projection.weights, shift=np.int64(projection.shift)
        )
