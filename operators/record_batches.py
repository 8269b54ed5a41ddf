"""Records of a source that came within some milliseconds, as one element. `RecordBatches.java` packs them.

All numbers are big-endian. Of each record, one after the other:

    i64 timestamp in milliseconds, -2^63 where there is none, i32 partition, i64 offset,
    i32 length of the payload, payload, i32 length of the header `traceparent`, traceparent

A length of -1 says that there are no bytes: a tombstone, or no header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["NO_TIMESTAMP_MS", "SourceRecord", "unpack"]

NO_TIMESTAMP_MS = -(2**63)
"""What stands for no timestamp."""

_HEAD = struct.Struct(">qiqi")
_LENGTH = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One record of a topic."""

    timestamp_ms: int
    """Of Kafka, in milliseconds since the epoch; 0 where it has none."""
    partition: int
    offset: int
    payload: bytes
    """Empty for a tombstone."""
    traceparent: bytes | None


def unpack(batch: bytes) -> Iterator[SourceRecord]:
    """The records of an element, in order."""
    at, end = 0, len(batch)
    while at < end:
        timestamp_ms, partition, offset, length = _HEAD.unpack_from(batch, at)
        start = at + _HEAD.size
        after = start + max(0, length)
        (header,) = _LENGTH.unpack_from(batch, after)
        at = after + _LENGTH.size + max(0, header)
        yield SourceRecord(
            0 if timestamp_ms == NO_TIMESTAMP_MS else timestamp_ms,
            partition,
            offset,
            batch[start:after],
            None if header < 0 else batch[after + _LENGTH.size : at],
        )
