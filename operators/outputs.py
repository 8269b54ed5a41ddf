"""The side streams of the operators."""

from __future__ import annotations

from pyflink.common import Row
from pyflink.datastream import OutputTag

from core.dead_letters import PAYLOAD_LIMIT_BYTES, BadRecord, Provenance, dead_letter
from operators.rows import RECORD_TYPE, record

__all__ = ["DEAD_LETTERS", "TRACES", "to_dead_letters"]

DEAD_LETTERS = OutputTag("dead-letters", RECORD_TYPE)
"""Rows of (key, value, traceparent) for the topic `dead-letter`."""


TRACES = OutputTag("traces", RECORD_TYPE)
"""Rows of (key, value, traceparent) for the topic `debug`."""


def to_dead_letters(
    key: str,
    bad: BadRecord,
    source: Provenance,
    payload: bytes,
    traceparent: bytes = b"",
    limit_bytes: int | None = PAYLOAD_LIMIT_BYTES,
) -> tuple[OutputTag, Row]:
    """A rejected record as an output for the dead letters.

    Args:
        key: The image id, "" where it is not known.
        bad: What is wrong with it.
        source: Where it lay.
        payload: Its bytes.
        traceparent: Its trace context, if it has one.
        limit_bytes: How many of its bytes are kept. None keeps all: for a record that had passed validation.
    """
    return DEAD_LETTERS, record(key.encode(), dead_letter(bad, source, payload, limit_bytes), traceparent)
