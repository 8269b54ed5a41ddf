"""The table of ids beside a dictionary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import ImageId
from search.index.id_table import Bounds, IdColumn, build_id_table, last_entries, open_id_table, repeated_entries

IDS = st.lists(st.text(max_size=5).map(ImageId) | st.integers(0, 9).map(lambda n: ImageId(f"i{n}")), max_size=60)


@settings(max_examples=60, deadline=None)
@given(ids=IDS, others=IDS)
def test_it_finds_what_a_dictionary_finds(ids: list[ImageId], others: list[ImageId]) -> None:
    column = IdColumn.of(ids)
    table = build_id_table(column)
    asked = [*ids[:10], *others]
    versions = np.arange(len(ids), dtype=np.uint64) * 2
    everything = Bounds(np.full(len(asked), 2**62), np.full(len(asked), 2**64 - 1, np.uint64))
    for each in (table, replace(table, mixed=True)):
        found = last_entries(each, column, versions, IdColumn.of(asked), everything)
        assert found.tolist() == [max_before(ids, one, len(ids)) for one in asked]
    assert not table.mixed
    older, newer = repeated_entries(table, column)
    pairs = {(old, new) for new, one in enumerate(ids) for old in [max_before(ids, one, new)] if old >= 0}
    assert set(zip(older.tolist(), newer.tolist(), strict=True)) == pairs
    order = np.random.RandomState(0).permutation(len(ids))
    assert column.many(order) == [ids[row] for row in order.tolist()]
    assert [column[row] for row in range(len(column))] == ids


def max_before(ids: list[ImageId], one: ImageId, entry: int) -> int:
    return max((row for row in range(entry) if ids[row] == one), default=-1)


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.sampled_from(["a", "b", "c"]).map(ImageId), max_size=40),
    asked=st.lists(
        st.tuples(st.sampled_from(["a", "b", "d"]).map(ImageId), st.integers(0, 41), st.integers(0, 90)), max_size=9
    ),
    one_tag=st.booleans(),
)
def test_the_last_entry_within_bounds_is_found_among_many_of_one_id(
    ids: list[ImageId], asked: list[tuple[ImageId, int, int]], one_tag: bool
) -> None:
    column, versions = IdColumn.of(ids), np.arange(len(ids), dtype=np.uint64) * 2
    table = build_id_table(column)
    bounds = Bounds(
        np.array([below for _, below, _ in asked], np.int64), np.array([version for *_, version in asked], np.uint64)
    )
    wanted = IdColumn.of([one for one, *_ in asked])
    tables = [table, replace(table, mixed=True)]
    found = [last_entries(each, column, versions, wanted, bounds).tolist() for each in tables]
    expected = [
        max((e for e, other in enumerate(ids) if other == one and e < below and 2 * e <= version), default=-1)
        for one, below, version in asked
    ]
    assert found == [expected, expected]


def test_ids_that_share_a_tag_are_told_apart() -> None:
    ids = [ImageId(text) for text in ("a", "b", "a", "c", "b")]
    column, versions = IdColumn.of(ids), np.array([1, 9, 2, 9, 10], np.uint64)
    found = []
    for one in ("a", "b", "c"):
        asked = IdColumn.of([ImageId(one)])
        own = build_id_table(asked)  # its one tag is what the asked id hashes to
        buckets = own.buckets * np.uint32(len(ids))
        table = open_id_table(buckets, np.repeat(own.tags, len(ids)), np.arange(len(ids), dtype=np.uint32), column)
        assert table.mixed
        bounds = Bounds(np.array([5]), np.array([9], np.uint64))
        found += last_entries(table, column, versions, asked, bounds).tolist()
    assert found == [2, 1, 3]
