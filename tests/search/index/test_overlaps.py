"""Shared terms, beside numpy."""

from __future__ import annotations

import numpy as np
import pytest

from search.index.overlaps import count_shared


@pytest.mark.parametrize("rows", [0, 1, 64, 200])
@pytest.mark.parametrize("queries", [0, 1, 5])
def test_it_counts_equal_terms(rows: int, queries: int) -> None:
    drawn = np.random.default_rng((rows, queries))
    terms, asked = drawn.integers(0, 3, (rows, 40), np.uint32), drawn.integers(0, 3, (queries, 40), np.uint32)
    found = np.full((queries, rows), 9, np.uint16)
    count_shared(asked, terms, found)
    assert found.tolist() == (terms == asked[:, None]).sum(axis=2).tolist()
