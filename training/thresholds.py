"""What scores on labelled pairs mean: calibration, precision and recall, and the threshold `accept`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from training.exact_network import Calibration

__all__ = [
    "PrecisionCurve",
    "Reliability",
    "calibrate",
    "choose_accept",
    "precision_curve",
    "precision_lower_bound",
    "reliability",
]

ONE_SIDED_95 = 1.6449
"""95 % of a normal distribution lie below this many standard deviations."""

_NEWTON_STEPS = 100


@dataclass(frozen=True, eq=False, slots=True)
class PrecisionCurve:
    """Precision and recall at every distinct score, from the highest down.

    Pairs that score at least `threshold[k]` are accepted: `right[k]` of the `copies` copies, and `wrong[k]` pairs of
    different images.
    """

    threshold: NDArray[np.float32]
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    copies: int

    @property
    def precision(self) -> NDArray[np.float64]:
        """At each threshold."""
        precision: NDArray[np.float64] = self.right / np.maximum(1, self.right + self.wrong)
        return precision

    @property
    def recall(self) -> NDArray[np.float64]:
        """At each threshold, of the copies among these pairs."""
        return self.right / max(1, self.copies)

    def recall_at_precision(self, wanted: float) -> float:
        """The largest recall with a precision of at least `wanted`; 0 if no threshold reaches it."""
        return float(self.recall[self.precision >= wanted].max(initial=0.0))

    @property
    def average_precision(self) -> float:
        """The area below the curve."""
        gains = np.diff(self.recall, prepend=0.0)
        return float((gains * self.precision).sum())

    def at(self, threshold: float) -> tuple[float, float]:
        """Precision and recall at a threshold; precision is 1 if no pair is accepted."""
        taken = int(np.searchsorted(-self.threshold, -np.float32(threshold), side="right"))
        if taken == 0:
            return 1.0, 0.0
        return float(self.precision[taken - 1]), float(self.recall[taken - 1])


def precision_curve(scores: NDArray[np.float32], is_copy: NDArray[np.bool_]) -> PrecisionCurve:
    """The curve of scored pairs."""
    order = np.argsort(-scores, kind="stable")
    ranked, copies = scores[order], is_copy[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, np.int64)
    right = np.cumsum(copies)[last]
    return PrecisionCurve(ranked[last], right, last + 1 - right, int(copies.sum()))


def precision_lower_bound(right: NDArray[np.int64], wrong: NDArray[np.int64]) -> NDArray[np.float64]:
    """The lower end of Wilson's one-sided 95 % interval of a precision; 0 if no pair was accepted."""
    taken = np.maximum(1, right + wrong)
    share, z2 = right / taken, ONE_SIDED_95**2
    spread = ONE_SIDED_95 * np.sqrt(share * (1 - share) / taken + z2 / (4 * taken**2))
    bound: NDArray[np.float64] = np.where(right > 0, (share + z2 / (2 * taken) - spread) / (1 + z2 / taken), 0.0)
    return bound


def choose_accept(curve: PrecisionCurve, wanted: float, growth: float = 1.0) -> tuple[float, float]:
    """The lowest threshold whose lower bound of precision is at least `wanted`, and that bound.

    If no threshold reaches it (too few pairs), the threshold with the highest bound.

    Args:
        curve: Over the candidates of a search.
        wanted: The precision.
        growth: How many times larger the corpus will be in service. Look-alikes grow with it, the copies of an image do
            not. So the number of wrong pairs is multiplied by it.

    Raises:
        BadInputError: There are no pairs.
    """
    if not len(curve.threshold):
        raise BadInputError("there are no pairs to choose a threshold from")
    bound = precision_lower_bound(curve.right, np.rint(curve.wrong * growth).astype(np.int64))
    reached = np.flatnonzero(bound >= wanted)
    chosen = int(reached[-1]) if len(reached) else int(np.argmax(bound))
    return float(curve.threshold[chosen]), float(bound[chosen])


def calibrate(logits: NDArray[np.float64], is_copy: NDArray[np.bool_]) -> Calibration:
    """Platt scaling: the slope and offset for which the sigmoid of the logits fits the labels best.

    Targets are slightly inside 0 and 1 (Platt's prior), so that there is a solution for separable data too.

    Raises:
        BadInputError: One of the two classes is missing, or copies do not have higher logits.
    """
    copies, different = int(is_copy.sum()), int((~is_copy).sum())
    if not copies or not different:
        raise BadInputError(f"calibration needs copies and different pairs, there are {copies} and {different}")
    target = np.where(is_copy, (copies + 1) / (copies + 2), 1 / (different + 2))
    # Standardised, so that Newton's steps are well scaled for logits of any size.
    mean, deviation = float(logits.mean()), max(float(logits.std()), 1e-12)
    inputs = np.stack([(logits - mean) / deviation, np.ones_like(logits)])
    line = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        line, moved = _newton_step(line, inputs, target)
        if moved < 1e-10:
            break
    slope = line[0] / deviation
    if slope <= 0:
        raise BadInputError(
            f"copies do not have higher logits (the slope is {slope:.3g}, not positive): the network has not learnt; "
            "train longer, or on more photographs"
        )
    return Calibration(float(slope), float(line[1] - slope * mean))


@dataclass(frozen=True, eq=False, slots=True)
class Reliability:
    """Scored pairs in bins of equal width over 0 to 1; one entry per bin that has pairs."""

    predicted: NDArray[np.float64]
    """The mean score."""
    observed: NDArray[np.float64]
    """The share of copies."""
    pairs: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error (Naeini et al. 2015): mean of |predicted - observed| over the pairs."""
        return float(np.abs(self.predicted - self.observed) @ self.pairs / max(1, self.pairs.sum()))


def reliability(scores: NDArray[np.float32], is_copy: NDArray[np.bool_], bins: int = 10) -> Reliability:
    """Compares scores with the share of copies, in bins."""
    part = np.minimum((scores.astype(np.float64) * bins).astype(np.int64), bins - 1)
    counts = np.bincount(part, minlength=bins)
    filled = np.flatnonzero(counts)
    predicted, observed = (np.bincount(part, values, bins)[filled] / counts[filled] for values in (scores, is_copy))
    return Reliability(predicted, observed, counts[filled])


def _newton_step(
    line: NDArray[np.float64], inputs: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """One Newton step towards the least cross entropy, halved until the loss falls; and the size of the step."""

    def loss(at: NDArray[np.float64]) -> float:
        scaled = at @ inputs
        return float((np.logaddexp(0, scaled) - target * scaled).sum())

    probability = 1 / (1 + np.exp(-np.clip(line @ inputs, -500, 500)))
    gradient = inputs @ (probability - target)
    curvature = (inputs * (probability * (1 - probability))) @ inputs.T + 1e-9 * np.eye(2)
    step = np.linalg.solve(curvature, gradient)
    before = loss(line)
    for _ in range(30):
        if loss(line - step) <= before:
            return line - step, float(np.abs(step).max())
        step = step / 2
    return line, 0.0
