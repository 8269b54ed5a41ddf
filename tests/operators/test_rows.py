"""Rows of the Kafka tables as records."""

from __future__ import annotations

import pytest
from pyflink.common import Row

from operators.rows import NO_TIMESTAMP, KafkaRecord, kafka_record, keyed, record
from search.dead_letters import Provenance


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
    assert tuple(keyed(b"value")) == (0, b"value")
