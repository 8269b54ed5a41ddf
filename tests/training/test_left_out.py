"""Left-out data sets: one threshold over all, and what each gets at the threshold of the others."""

from __future__ import annotations

import numpy as np
import pytest

from training.left_out import LeftOut, choose_on_left_out, left_out_metrics


def scored(name: str, right: list[float], wrong: list[float], times: int = 400) -> LeftOut:
    scores = np.tile(np.array(right + wrong, np.float32), times)
    return LeftOut(name, scores, np.tile([True] * len(right) + [False] * len(wrong), times))


EASY = scored("easy", [0.9, 0.8, 0.7], [0.2])
HARD = scored("hard", [0.9, 0.8, 0.6], [0.7])


def test_the_threshold_is_over_the_pairs_of_all() -> None:
    assert choose_on_left_out([EASY], 0.99)[0] == pytest.approx(0.7)
    accept, bound = choose_on_left_out([EASY, HARD], 0.99)
    assert accept == pytest.approx(0.8)
    assert bound > 0.99


def test_each_set_is_told_at_the_threshold_of_the_others() -> None:
    found = left_out_metrics([EASY, HARD], 0.99)
    assert found["left_out_recall_at_precision_0.99_easy"] == 1.0
    assert found["left_out_recall_at_precision_0.99_hard"] == pytest.approx(2 / 3)
    # At 0.8 the easy one gives 2 of 3 copies; at 0.7 the hard one gives 2 of 3, and its different pair.
    assert found["left_out_precision_at_accept"] == pytest.approx(4 / 5)
    assert found["left_out_recall_at_accept"] == pytest.approx(4 / 6)


def test_a_single_set_has_no_others() -> None:
    assert set(left_out_metrics([EASY], 0.9)) == {
        "left_out_recall_at_precision_0.9_easy",
        "left_out_recall_at_precision_0.9",
    }
