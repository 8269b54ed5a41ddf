"""The gate lies above every accepted pair, by a margin, and never above the bits of a code."""

from __future__ import annotations

import numpy as np
import pytest

from training.gate import choose_gate


@pytest.mark.parametrize(
    ("accepted", "gate"),
    [([0, 400, 7], 420), ([401], 422), ([1020], 1024), ([0], 0), ([], None)],
)
def test_the_largest_distance_and_a_twentieth(accepted: list[int], gate: int | None) -> None:
    assert choose_gate(np.array(accepted, np.int64), 1024) == gate
