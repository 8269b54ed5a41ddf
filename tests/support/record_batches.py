"""Elements as `RecordBatches.java` packs them."""

from __future__ import annotations

import struct

from operators.record_batches import NO_TIMESTAMP_MS

__all__ = ["packed"]


def packed(
    payload: bytes | None,
    offset: int = 7,
    traceparent: bytes | None = None,
    timestamp_ms: int = NO_TIMESTAMP_MS,
    partition: int = 1,
) -> bytes:
    """One record. Several, one behind the other, are an element of several."""
    return struct.pack(">qiq", timestamp_ms, partition, offset) + _field(payload) + _field(traceparent)


def _field(data: bytes | None) -> bytes:
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data
