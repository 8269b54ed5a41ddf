"""Choosing `head_accept` and `adopt` on made-up streams whose quality under any thresholds is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.types import Thresholds
from training.thresholds import PrecisionCurve, precision_curve
from training.validation import choose_thresholds

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Scores at which the precision over pairs is 0.72, 0.85, 0.92, 0.96 and 1: each stands for some wanted precision."""

_PAIRS = {0.9: (100, 0), 0.8: (92, 8), 0.7: (84, 16), 0.6: (64, 36), 0.5: (20, 80)}
"""Copies and different pairs of each score."""


def curve() -> PrecisionCurve:
    scores = np.repeat(np.array(list(_PAIRS), np.float32), 100)
    labels = np.concatenate([[True] * right + [False] * wrong for right, wrong in _PAIRS.values()])
    return precision_curve(scores, labels)


@dataclass(frozen=True)
class KnownStreams:
    """Two orders; the quality of a stream is looked up by its thresholds, and differs a little between the orders."""

    by_head: dict[float, tuple[float, float]]
    """`head_accept` -> BCubed precision and F1 where `adopt` is `accept`."""
    by_adopt: dict[float, tuple[float, float]]
    """`adopt` -> the same for any other `adopt`."""
    accept: float
    bits: np.ndarray = field(default_factory=lambda: np.empty((5, 128), np.uint8))

    def orders(self, splits: list[str], count: int) -> list[np.ndarray]:
        assert splits == ["train", "val"]
        return [np.array([number]) for number in range(count)]

    def stream(self, order: np.ndarray, codes: Any, scorer: Any) -> Any:
        return SimpleNamespace(heads=lambda thresholds: thresholds, furthest=[300, 400][order[0]])

    def pair_curve(self, stream: Any, order: Any, split: str) -> PrecisionCurve:
        assert split == "val"
        return curve()

    def accepted_distances(self, stream: Any, order: np.ndarray, accept: float) -> np.ndarray:
        assert accept == pytest.approx(self.accept)
        return np.array([stream.furthest, 7])

    def of(self, split: str) -> Any:
        return split

    def quality(self, order: np.ndarray, heads: Thresholds, counted: Any) -> Any:
        assert counted == "val"
        assert heads.accept == pytest.approx(self.accept)
        adopts = round(heads.adopt, 3) == self.accept
        table, at = (self.by_head, heads.head_accept) if adopts else (self.by_adopt, heads.adopt)
        precision, f1 = table[round(at, 3)]
        # The mean over both orders is the number of the table.
        off = 0.03 * (round(at * 10) % 2) * (1 if order[0] else -1)
        return SimpleNamespace(bcubed=SimpleNamespace(precision=precision + off, recall=0.5, f1=f1 + off))


def chosen(streams: KnownStreams, accept: tuple[float, float] | None = (float(np.float32(0.8)), 0.97)) -> Any:
    settings = SimpleNamespace(orders=2, precision=0.99, corpus_growth=1.0, cluster_precision=0.98)
    found = choose_thresholds(streams, np.empty(0), None, settings, accept)  # type: ignore[arg-type]
    limits = found.thresholds
    assert found.gate == 420  # above the furthest accepted pair of both orders
    return tuple(round(value, 3) for value in (limits.accept, limits.head_accept, limits.adopt)), found.metrics


def test_the_strictest_of_the_nearly_best_that_are_precise() -> None:
    # 0.5 has the best F1 and is not precise; 0.7 is within 0.002 of 0.6, 0.8 is not.
    by_head = {0.5: (0.97, 0.900), 0.6: (0.985, 0.880), 0.7: (0.987, 0.8785), 0.8: (0.99, 0.875)}
    # Adopting is tried from `head_accept` on: 0.7 is best there, 0.8 (of `by_head`, 0.8785) is nearly as good.
    limits, metrics = chosen(KnownStreams(by_head, {0.7: (0.983, 0.8795), 0.9: (0.995, 0.87)}, 0.8))
    assert limits == (0.8, 0.7, 0.8)
    assert metrics["val_bcubed_f1"] == pytest.approx(0.8785)
    assert metrics["val_precision_at_accept_lower_bound"] == 0.97


def test_a_clearly_better_loose_threshold_is_taken() -> None:
    by_head = {0.5: (0.981, 0.905), 0.6: (0.985, 0.880), 0.7: (0.987, 0.879), 0.8: (0.99, 0.87)}
    limits, metrics = chosen(
        KnownStreams(by_head, {0.5: (0.9, 0.95), 0.6: (0.98, 0.92), 0.7: (1, 0.9), 0.9: (1, 0.8)}, 0.8)
    )
    assert limits == (0.8, 0.5, 0.6)
    assert (metrics["val_bcubed_precision"], metrics["val_bcubed_f1"]) == pytest.approx((0.98, 0.92))


def test_where_none_is_precise_the_most_precise_is_taken() -> None:
    by_head = {0.5: (0.90, 0.95), 0.6: (0.97, 0.80), 0.7: (0.96, 0.9), 0.8: (0.95, 0.9)}
    limits, _ = chosen(KnownStreams(by_head, {0.6: (0.91, 0.9), 0.7: (0.95, 0.9), 0.9: (0.94, 0.9)}, 0.8))
    assert limits == (0.8, 0.6, 0.8)


def test_accept_comes_from_the_pairs_where_it_is_not_given() -> None:
    """No threshold reaches 0.99 by its lower bound: the surest is taken, and looser heads are tried below it."""
    by_head = {level: (0.99, 0.5 + level / 10) for level in LEVELS}
    limits, _ = chosen(KnownStreams(by_head, {}, 0.9), None)
    assert limits == (0.9, 0.9, 0.9)
