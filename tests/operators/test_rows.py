"""Rows between the operators."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from operators.rows import batches, record, records


def test_a_row_for_a_sink() -> None:
    assert tuple(record(b"key", b"value")) == (b"key", b"value", None)
    assert tuple(record(b"key", b"value", b"trace")) == (b"key", b"value", b"trace")


@given(st.lists(st.binary(max_size=20)), st.integers(1, 60))
def test_batches_carry_every_record_in_order(in_flight: list[bytes], max_bytes: int) -> None:
    rows = batches(in_flight, max_bytes)
    parts = [records(row[1]) for row in rows]
    assert [each for part in parts for each in part] == in_flight
    assert all(row[0] == 0 for row in rows)
    for part in parts:
        assert len(part) == 1 or sum(map(len, part)) <= max_bytes
    for part, following in pairwise(parts):
        assert sum(map(len, part)) + len(following[0]) > max_bytes
