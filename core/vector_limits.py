"""Which vectors the entrance refuses although their form is right: degenerate ones, and ones of another scale.

Hashing subtracts the centre and keeps directions. So vectors that are nearly zero, nearly constant or nearly the centre
have codes of rounding errors or of the centre alone, and unrelated images look equal. A sender that starts to scale its
vectors has the same effect on all images at once.

| refused as | when |
| --- | --- |
| `degenerate` | every number is below `ZERO_FLOOR`, or the numbers differ by less than `CONSTANT_FLOOR` of the norm |
| `degenerate` | the norm is below `ZERO_SHARE` of the sample's median |
| `degenerate` | the distance to a constant, or to the centre, is below `degenerate_share` of the sample's least |
| `unusual_norm` | the norm is beyond the sample's extremes by more than `norm_factor` |

The first line holds always. The others need what `neardup centres` measured. A signal that normalises its vectors is
measured and checked after that, and its norms are free.

Only the entrance refuses by these limits. Records that are in the order already are decided as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from core.dead_letters import BadRecord, Reason
from core.notifications import EmbeddingSpec
from core.vectors import unit_rows

__all__ = ["CONSTANT_FLOOR", "QUANTILES", "ZERO_FLOOR", "ZERO_SHARE", "MeasuredVectors", "NormBand", "VectorLimits"]

ZERO_FLOOR = 2.0**-14
"""The smallest normal float16. Smaller numbers lose digits, down to none."""

CONSTANT_FLOOR = 2.0**-9
"""Four times the largest rounding error of float16, relative to the number."""

ZERO_SHARE = 0.01
"""A vector whose norm is a smaller share of the median norm is nearly zero, not only of another scale."""

QUANTILES = (0.0, 0.01, 0.5, 0.99, 1.0)
"""The quantiles that are measured of each quantity."""

_SQUARES_ERROR = 1e-3
"""Far above the relative rounding error of a sum of squares in float32."""

_TWICE = 2.0
"""A square so much above its limit is certainly above it."""

_LEAST, _LOW, _MEDIAN, _HIGH, _MOST = range(len(QUANTILES))


class NormBand(StrEnum):
    """Where a norm lies: below, within or above the middle 98 % of the measured ones."""

    LOW = "low"
    USUAL = "usual"
    HIGH = "high"


@dataclass(frozen=True, eq=False)
class MeasuredVectors:
    """What `neardup centres` measured of one embedding on a sample; each array has one number per quantile."""

    centre: NDArray[np.float32]
    norms: NDArray[np.float64]
    distances: NDArray[np.float64]
    """To the centre."""
    deviations: NDArray[np.float64]
    """Distances to the nearest constant vector."""


@dataclass(frozen=True)
class VectorLimits:
    """The limits of one embedding. Picklable."""

    spec: EmbeddingSpec
    measured: MeasuredVectors | None = None
    """None: only the floors are checked."""

    def problem(self, vector: NDArray[np.float32]) -> BadRecord | None:
        """Why the entrance refuses a vector of finite numbers that are not all zero; None: it does not.

        Args:
            vector: (dimension,)
        """
        largest = float(np.abs(vector).max())
        if largest < ZERO_FLOOR:
            return _degenerate(
                f"the largest number of the vector is {largest:.3g}, the least that counts {ZERO_FLOOR:.3g}"
            )
        values = self._values(vector)
        norm, deviation = _norm(values), _norm(values - values.mean())
        if deviation < CONSTANT_FLOOR * norm:
            return _degenerate(f"the numbers of the vector are equal up to rounding (about {float(values.mean()):.3g})")
        return None if self.measured is None else self._measured_problem(self.measured, values, norm, deviation)

    def problems(self, rows: NDArray[np.float32]) -> dict[int, BadRecord]:
        """`problem` of many vectors at once: what is wrong with each row of (n, dimension), by its number.

        A few sums over all rows tell most that are well within the limits. Only the others are looked at one by one.
        """
        problems = {row: self.problem(rows[row]) for row in np.flatnonzero(~self._well_within(rows)).tolist()}
        return {row: problem for row, problem in problems.items() if problem is not None}

    def band(self, vector: NDArray[np.float32]) -> NormBand:
        """Where the norm of a vector lies among the measured ones; `USUAL` where nothing is measured."""
        if self.measured is None or self.spec.normalise:
            return NormBand.USUAL
        norm = _norm(vector.astype(np.float64))
        if norm < self.measured.norms[_LOW]:
            return NormBand.LOW
        return NormBand.HIGH if norm > self.measured.norms[_HIGH] else NormBand.USUAL

    def _well_within(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of many vectors (n, dimension) have certainly no problem, in float32 and with wide margins: (n,)."""
        values = unit_rows(rows) if self.spec.normalise else rows
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", values, values)
            error = _SQUARES_ERROR * squares
            deviations = squares - self.spec.dimension * np.square(values.mean(axis=1)) - error
            plain = squares if not self.spec.normalise else np.einsum("ij,ij->i", rows, rows)
            within: NDArray[np.bool_] = (plain > _TWICE * self.spec.dimension * ZERO_FLOOR**2) & (
                deviations > _TWICE * CONSTANT_FLOOR**2 * squares
            )
            if self.measured is None:
                return within
            measured, factor, share = self.measured, self.spec.norm_factor, self.spec.degenerate_share
            within &= squares > _TWICE * (ZERO_SHARE * float(measured.norms[_MEDIAN])) ** 2
            if factor and not self.spec.normalise:
                within &= squares - error > (float(measured.norms[_LEAST]) / factor) ** 2
                within &= squares + error < (float(measured.norms[_MOST]) * factor) ** 2
            centre_square = float(np.dot(measured.centre, measured.centre))
            distances = squares - 2 * (values @ measured.centre) + centre_square
            distances -= _SQUARES_ERROR * (squares + centre_square)
            within &= deviations > _TWICE * (share * float(measured.deviations[_LEAST])) ** 2
            within &= distances > _TWICE * (share * float(measured.distances[_LEAST])) ** 2
        return within

    def _values(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        return (unit_rows(vector[None, :])[0] if self.spec.normalise else vector).astype(np.float64)

    def _measured_problem(
        self, measured: MeasuredVectors, values: NDArray[np.float64], norm: float, deviation: float
    ) -> BadRecord | None:
        median = float(measured.norms[_MEDIAN])
        if norm < ZERO_SHARE * median:
            return _degenerate(f"the norm of the vector is {norm:.3g}, the median of this embedding is {median:.3g}")
        factor, share = self.spec.norm_factor, self.spec.degenerate_share
        if factor and not self.spec.normalise:
            least, most = float(measured.norms[_LEAST]) / factor, float(measured.norms[_MOST]) * factor
            if not least <= norm <= most:
                return BadRecord(
                    Reason.UNUSUAL_NORM,
                    f"the norm of the vector is {norm:.3g}, this embedding's are {least:.3g} to {most:.3g}: "
                    "has the sender begun to scale or to normalise?",
                )
        distance = _norm(values - measured.centre)
        for name, found, sample in (
            ("a constant vector", deviation, measured.deviations),
            ("the centre of its embedding", distance, measured.distances),
        ):
            least = share * float(sample[_LEAST])
            if found < least:
                return _degenerate(f"the vector is {found:.3g} from {name}, the least distance is {least:.3g}")
        return None


def _degenerate(detail: str) -> BadRecord:
    return BadRecord(Reason.DEGENERATE, detail)


def _norm(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.dot(values, values)))
