"""Posting lists: what is packed comes back, whatever the gaps, the widths of terms and the size of the directory."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from search.index.list_reading import Lists, list_of, read_numbers
from search.index.packing import pack_rows, row_bytes, unpack_rows
from search.index.posting_lists import BLOCK, ListShape, PostingLists, invert, number_bytes_for


def read(lists: PostingLists, group: int, term: int, bound: int = 2**40, most: int = 10**5) -> list[int]:
    shape = lists.shape
    sizes = shape.rest_bits, shape.rest_bytes, shape.number_bytes
    start, stop = list_of(Lists(lists.directory, lists.bases, lists.data, *sizes), group, term)
    if stop <= start:
        return []
    out = np.empty(most + BLOCK, np.int32)
    return out[: read_numbers(lists.data, start, stop, shape.number_bytes, bound, most, out)].tolist()


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(1, 24),
    directory_bits=st.integers(0, 10),
    few=st.integers(1, 300),
    numbers=st.lists(st.integers(0, 40) | st.integers(0, 2**20) | st.integers(0, 2**29), min_size=1, max_size=120),
    seed=st.integers(0, 2**31),
)
def test_lists_come_back(bits: int, directory_bits: int, few: int, numbers: list[int], seed: int) -> None:
    entries = np.unique(np.array(numbers, np.uint32))
    random = np.random.RandomState(seed)
    terms = (random.randint(0, few, (len(entries), 3)) * 7919 % 2**bits).astype(np.uint32)
    shape = ListShape(3, bits, min(bits, directory_bits), number_bytes_for(int(entries[-1]) + 1))
    lists = invert(pack_rows(terms, bits), entries, shape)
    assert lists.postings == 3 * len(entries)
    asked = {*terms.ravel().tolist(), 0, 2**bits - 1, int(random.randint(2**bits))}
    lengths = []
    for group in range(3):
        for term in asked:
            expected = entries[terms[:, group] == term].tolist()
            assert read(lists, group, term) == expected
            bound = int(random.choice(entries))
            assert read(lists, group, term, bound, most=5) == [one for one in expected if one < bound][:5]
            lengths.append(len(expected))
    assert (lists.lists, lists.longest, lists.squares) == (
        sum(length > 0 for length in lengths),
        max(lengths),
        sum(length**2 for length in lengths),
    )


def test_long_runs_and_long_gaps() -> None:
    for entries in (
        np.arange(5000, dtype=np.uint32),
        np.arange(5000, dtype=np.uint32) * 400_001,
        np.cumsum(np.where(np.arange(3000) % 97, 1, 600_000)).astype(np.uint32),
    ):
        shape = ListShape.of(1, 1, int(entries[-1]) + 1)
        lists = invert(np.zeros((len(entries), 1), np.uint8), entries, shape)
        assert read(lists, 0, 0) == entries.tolist()
        assert read(lists, 0, 1) == []


def test_they_are_shorter_than_variable_bytes() -> None:
    random = np.random.RandomState(1)
    terms = (random.zipf(1.3, (20_000, 8)) % 2**12).astype(np.uint32)
    lists = invert(pack_rows(terms, 12), np.arange(20_000, dtype=np.uint32), ListShape.of(8, 12, 20_000))
    plain = 0
    for group in range(8):
        order = np.argsort(terms[:, group], kind="stable")
        same = np.diff(terms[order, group], prepend=2**31) == 0
        gaps = np.where(same, np.diff(order, prepend=0), order + 1) - 1
        plain += int((1 + (gaps >= 2**7) + (gaps >= 2**14)).sum())
    assert len(lists.data) <= 1.1 * plain


@settings(max_examples=50, deadline=None)
@given(bits=st.integers(1, 24), groups=st.integers(1, 9), rows=st.integers(0, 20), seed=st.integers(0, 2**31))
def test_packed_rows_come_back(bits: int, groups: int, rows: int, seed: int) -> None:
    terms = np.random.RandomState(seed).randint(0, 2**bits, (rows, groups)).astype(np.uint32)
    packed = pack_rows(terms, bits)
    assert packed.shape == (rows, row_bytes(groups, bits))
    assert np.array_equal(unpack_rows(packed, groups, bits), terms)
