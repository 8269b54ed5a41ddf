"""The table of ids beside a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import ImageId
from search.index.id_table import IdColumn, build_id_table, find_entries, repeated_entries

IDS = st.lists(st.text(max_size=5).map(ImageId) | st.integers(0, 9).map(lambda n: ImageId(f"i{n}")), max_size=60)


@settings(max_examples=60, deadline=None)
@given(ids=IDS, others=IDS)
def test_it_finds_what_a_dictionary_finds(ids: list[ImageId], others: list[ImageId]) -> None:
    column = IdColumn.of(ids)
    table = build_id_table(column)
    asked = [*ids[:10], *others]
    found, starts = find_entries(table, column, IdColumn.of(asked))
    for row, one in enumerate(asked):
        expected = [entry for entry, other in enumerate(ids) if other == one]
        assert found[starts[row] : starts[row + 1]].tolist() == expected
    older, newer = repeated_entries(table, column)
    pairs = {(old, new) for new, one in enumerate(ids) for old in [max_before(ids, one, new)] if old >= 0}
    assert set(zip(older.tolist(), newer.tolist(), strict=True)) == pairs
    order = np.random.RandomState(0).permutation(len(ids))
    assert column.many(order) == [ids[row] for row in order.tolist()]
    assert [column[row] for row in range(len(column))] == ids


def max_before(ids: list[ImageId], one: ImageId, entry: int) -> int:
    return max((row for row in range(entry) if ids[row] == one), default=-1)
