"""Exact random projections: a vector's Hamming bits, the same on any machine, in any batch, with any BLAS.

Ordinary float products depend on the order of their additions, so a bit of a vector near a hyperplane could change with
the size of the batch. Here every product is exact:

- each hyperplane is a row of integers with a norm of at most `PLANE_NORM` = 2^12 - 32;
- each vector is centred, scaled by a power of two so that its norm lies in [PLANE_NORM / 2, PLANE_NORM), and rounded to
  integers. Rounding adds at most sqrt(d) / 2 <= 64 to the norm (d <= 16,384), so the norm stays below 2^12 + 32;
- by Cauchy-Schwarz every partial sum of a product, over any subset of the elements, is an integer of at most
  (2^12 - 32) * (2^12 + 32) = 2^24 - 2^10, which float32 holds exactly. So order, blocking and fused additions do not
  matter.

The power of two comes from integer sums for the same reason. Scaling does not change signs, so only the rounding loses
anything: for 1280 elements of a typical size of 57 to 114 its error is below 0.6 % of the norm.

A bit is 1 if the product is above 0, so a vector that equals the centre has only 0 bits.
"""

from __future__ import annotations

import hashlib
import struct
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import BadInputError, SettingsError
from search.hashing.quantising import PLANE_NORM, quantised

__all__ = ["MAX_DIMENSION", "PLANE_NORM", "Hyperplanes", "centre_checksum", "checked_rows", "frozen_centre"]

MAX_DIMENSION = 16_384
"""With more elements, rounding could push a product past 2^24."""

_FORMAT = b"neardup-hyperplanes-1"
"""Part of the fingerprint; it changes when the construction changes."""


class Hyperplanes:
    """Seeded Gaussian hyperplanes, orthogonalised in blocks of `dimension`, as integers.

    Instances are immutable and may be shared between threads.
    """

    def __init__(self, dimension: int, bits: int, seed: int, centre: ArrayLike | None = None) -> None:
        """Draws the hyperplanes; 1024 bits of 1280 elements take some tenths of a second.

        Args:
            dimension: Elements of a vector, 2 to `MAX_DIMENSION`.
            bits: The number of hyperplanes.
            seed: 0 to 2^32 - 1; the same seed gives the same hyperplanes.
            centre: Subtracted from every vector, `dimension` finite float32 values; None: no centring.

        Raises:
            SettingsError: A parameter is out of its range, or the centre has another shape.
        """
        if not 2 <= dimension <= MAX_DIMENSION:
            raise SettingsError(f"a projection takes 2 to {MAX_DIMENSION} elements, not {dimension}")
        if bits < 1:
            raise SettingsError(f"a projection needs at least one bit, not {bits}")
        if not 0 <= seed < 2**32:
            raise SettingsError(f"a seed must lie in 0 to 2^32 - 1, not {seed}")
        self.dimension = dimension
        self.size = bits
        """The number of bits."""
        self.seed = seed
        self.centre = frozen_centre(centre, dimension)
        self.planes = _draw(dimension, bits, seed)
        """Integers (bits, dimension), int16, read-only."""
        self._shift = None if self.centre is None else self.centre.astype(np.float64)
        self.fingerprint = self._fingerprint()
        """SHA-256 (hex) of the parameters, the centre and the hyperplanes."""

    @cached_property
    def _columns(self) -> NDArray[np.float32]:
        return self.columns(np.arange(self.size))

    def columns(self, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
        """Some of the hyperplanes as factors of a product: (dimension, chosen)."""
        # A hyperplane lies together in memory. BLAS then packs it faster, which is a third of the time for 64 vectors.
        return self.planes[chosen].astype(np.float32).T

    @property
    def code_bytes(self) -> int:
        """Bytes of one packed code.

        Raises:
            SettingsError: The bits do not fill whole bytes.
        """
        if self.size % 8:
            raise SettingsError(f"packed codes need a multiple of 8 bits, not {self.size}")
        return self.size // 8

    def bits(self, vectors: ArrayLike, *, roots: bool = False) -> NDArray[np.bool_]:
        """The Hamming bits of vectors.

        Args:
            vectors: (n, dimension), float16 or float32; n may be 0.
            roots: Whether their signed square roots are taken first, rounded to float32.

        Returns:
            (n, bits) booleans; each row depends on its own vector alone.

        Raises:
            BadInputError: The shape does not fit, or a value is not finite (the message names the row).
        """
        rounded = self.quantise(vectors, roots=roots)
        # Exact whatever the order of additions: see the top of this module.
        return (rounded @ self._columns) > 0

    def codes(self, vectors: ArrayLike) -> NDArray[np.uint8]:
        """The Hamming bits, packed eight to a byte, the first bit highest: (n, bits // 8).

        Raises:
            BadInputError: As `bits`.
            SettingsError: The bits do not fill whole bytes.
        """
        _ = self.code_bytes
        return np.packbits(self.bits(vectors), axis=1)

    def quantise(self, vectors: ArrayLike, *, roots: bool = False) -> NDArray[np.float32]:
        """Vectors, or their signed square roots, as factors of the product: centred, scaled, rounded.

        Returns:
            (n, dimension) integers in float32.

        Raises:
            BadInputError: As `bits`.
        """
        return quantised(checked_rows(vectors, self.dimension), self._shift, roots=roots)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(_FORMAT)
        digest.update(struct.pack("<IIIB", self.dimension, self.size, self.seed, self.centre is not None))
        if self.centre is not None:
            digest.update(self.centre.astype("<f4").tobytes())
        digest.update(self.planes.astype("<i2").tobytes())
        return digest.hexdigest()


def checked_rows(vectors: ArrayLike, dimension: int) -> NDArray[np.float32]:
    """Vectors as (n, dimension) float32.

    Raises:
        BadInputError: The shape does not fit, or a value is not finite (the message names the row).
    """
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dimension:
        raise BadInputError(f"vectors must have the shape (n, {dimension}), not {rows.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        sums = rows.sum(axis=1)
    if np.isfinite(sums).all():  # one number that is not finite makes the sum so, but large ones may do that too
        return rows
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise BadInputError(f"the vector of row {int(np.argmin(finite))} holds a value that is not finite")
    return rows


def frozen_centre(centre: ArrayLike | None, dimension: int) -> NDArray[np.float32] | None:
    """A read-only float32 copy of a centre, checked; None stays None.

    Raises:
        SettingsError: It has another shape, or a value is not finite.
    """
    if centre is None:
        return None
    copy = np.array(centre, dtype=np.float32)
    if copy.shape != (dimension,):
        raise SettingsError(f"the centre has shape {copy.shape}, the vectors have {dimension} elements")
    if not np.isfinite(copy).all():
        raise SettingsError("the centre holds a value that is not finite")
    copy.flags.writeable = False
    return copy


def centre_checksum(centre: NDArray[np.float32] | None) -> str:
    """The first 16 hex digits of a centre's SHA-256, or "none"."""
    if centre is None:
        return "none"
    return hashlib.sha256(centre.astype("<f4").tobytes()).hexdigest()[:16]


def _draw(dimension: int, bits: int, seed: int) -> NDArray[np.int16]:
    # RandomState, not Generator: numpy guarantees that its stream never changes.
    random = np.random.RandomState(seed)
    planes = np.empty((bits, dimension), dtype=np.int16)
    scale = PLANE_NORM - 0.5 * np.sqrt(dimension)
    for start in range(0, bits, dimension):
        gauss = random.standard_normal((dimension, min(dimension, bits - start)))
        basis, triangle = np.linalg.qr(gauss)
        # With a positive diagonal the factors are unique. LAPACKs differ in signs, and otherwise far below the rounding
        # to integers. The fingerprint covers the integers, so a difference would be noticed.
        basis *= np.where(np.diagonal(triangle) < 0, -1.0, 1.0)
        planes[start : start + gauss.shape[1]] = np.rint(basis.T * scale).astype(np.int16)
    norms = np.einsum("ij,ij->i", planes, planes, dtype=np.int64)
    if int(norms.max()) > PLANE_NORM**2:
        raise AssertionError("a hyperplane is longer than an exact product allows")
    planes.flags.writeable = False
    return planes
