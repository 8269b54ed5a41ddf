"""Rows of the Kafka tables as records."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyflink.common import Row

from core.dead_letters import Provenance
from operators.rows import NO_TIMESTAMP, KafkaRecord, batches, kafka_record, record, records


def test_a_row_becomes_a_record() -> None:
    row = Row(b"payload", "topic", 3, 2**40, "whatever follows")
    assert kafka_record(row, 5) == KafkaRecord(b"payload", Provenance("topic", 3, 2**40, 5))


@pytest.mark.parametrize("none", [None, NO_TIMESTAMP])
def test_without_a_timestamp_zero_is_noted(none: int | None) -> None:
    assert kafka_record(Row(b"", "topic", 0, 0), none).source.timestamp_ms == 0


def test_a_tombstone_is_empty() -> None:
    assert kafka_record(Row(None, "topic", 0, 0)).payload == b""


def test_rows_that_go_on() -> None:
    assert tuple(record(b"key", b"value")) == (b"key", b"value")


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
