"""Rows taken ahead of time are those that plain indexing takes."""

from __future__ import annotations

import numpy as np
import pytest

from search.index.gathering import AHEAD, take_rows


@pytest.mark.parametrize("count", [0, 1, AHEAD - 1, AHEAD, AHEAD + 1, 200])
@pytest.mark.parametrize(("width", "kind"), [((), np.int64), ((1,), np.uint8), ((64,), np.uint8), ((200,), np.uint8)])
def test_rows_are_those_of_plain_indexing(count: int, width: tuple[int, ...], kind: type[np.generic]) -> None:
    random = np.random.RandomState(count)
    column = random.randint(0, 255, (300, *width)).astype(kind)
    column.flags.writeable = False  # as a mapped file is
    rows = random.randint(0, 300, count)
    taken = take_rows(column, rows)
    assert taken.dtype == column.dtype
    assert np.array_equal(taken, column[rows])
