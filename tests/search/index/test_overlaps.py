"""Shared terms, beside numpy."""

from __future__ import annotations

import numpy as np
import pytest

from search.index.overlaps import count_shared


@pytest.mark.parametrize("rows", [0, 1, 200])
def test_it_counts_equal_terms(rows: int) -> None:
    drawn = np.random.default_rng(rows)
    terms = drawn.integers(0, 3, (rows, 40), np.uint32)
    asked, found = drawn.integers(0, 3, 40, np.uint32), np.full(rows, 9, np.uint16)
    count_shared(asked, terms, found)
    assert found.tolist() == (terms == asked).sum(axis=1).tolist()
