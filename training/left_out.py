"""How a classifier does on kinds of pictures that it never saw: each data set is left out in turn.

For each data set, a network is trained and calibrated on the other ones. Its scores on the candidate pairs of the data
set left out show what to expect of new kinds of pictures in service.
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
    """The candidate pairs of one data set, with calibrated scores of a network that never saw it."""

    name: str
    scores: NDArray[np.float32]
    is_copy: NDArray[np.bool_]


def choose_on_left_out(sets: Sequence[LeftOut], wanted: float, growth: float = 1.0) -> tuple[float, float]:
    """`accept` and its bound (`training.thresholds.choose_accept`), over the pairs of all left-out data sets."""
    return choose_accept(_pooled(sets), wanted, growth)


def left_out_metrics(sets: Sequence[LeftOut], wanted: float, growth: float = 1.0) -> dict[str, float]:
    """What to expect of new kinds of pictures.

    These are the recall at the wanted precision, of each data set and of all pairs together; and the precision and
    recall of all pairs if each data set uses the threshold that was chosen on the others.
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
