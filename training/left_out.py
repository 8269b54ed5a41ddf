"""How a classifier fares on kinds of pictures that it never saw: data sets that were left out, each in turn.

For each data set a network is trained on the others and calibrated on them; its scores on the left-out one's candidate
pairs say what to expect where a service meets something new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.thresholds import PrecisionCurve, choose_accept, precision_curve

__all__ = ["LeftOut", "choose_on_left_out", "left_out_metrics"]


@dataclass(frozen=True, eq=False, slots=True)
class LeftOut:
    """One data set's candidate pairs, scored (calibrated) by a network that never saw it."""

    name: str
    scores: NDArray[np.float32]
    is_copy: NDArray[np.bool_]


def choose_on_left_out(sets: Sequence[LeftOut], wanted: float, growth: float = 1.0) -> tuple[float, float]:
    """`accept` and its bound (`training.thresholds.choose_accept`), over the pairs of all left-out data sets."""
    return choose_accept(_pooled(sets), wanted, growth)


def left_out_metrics(sets: Sequence[LeftOut], wanted: float, growth: float = 1.0) -> dict[str, float]:
    """What to expect of new kinds of pictures.

    Recall at the wanted precision of each data set, and pooled; and the precision and recall, pooled, when each data
    set is taken at the threshold that was chosen on the others.
    """
    found = {
        f"left_out_recall_at_precision_{wanted:g}_{one.name}": precision_curve(
            one.scores, one.is_copy
        ).recall_at_precision(wanted)
        for one in sets
    }
    found[f"left_out_recall_at_precision_{wanted:g}"] = _pooled(sets).recall_at_precision(wanted)
    if len(sets) < 2:
        return found
    right = wrong = copies = 0
    for one in sets:
        accept, _ = choose_on_left_out([other for other in sets if other is not one], wanted, growth)
        taken = one.scores >= np.float32(accept)
        right += int((taken & one.is_copy).sum())
        wrong += int((taken & ~one.is_copy).sum())
        copies += int(one.is_copy.sum())
    found["left_out_precision_at_accept"] = right / max(1, right + wrong)
    found["left_out_recall_at_accept"] = right / max(1, copies)
    return found


def _pooled(sets: Sequence[LeftOut]) -> PrecisionCurve:
    return precision_curve(np.concatenate([one.scores for one in sets]), np.concatenate([one.is_copy for one in sets]))
