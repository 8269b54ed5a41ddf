"""How far the topic `assignments` goes: the number of its last message, or of the last one before an offset."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

__all__ = ["TopicEnd", "number_of", "read_end"]

_BACK = 8
"""So many offsets are searched for a message: a producer with transactions leaves offsets without one."""


@dataclass(frozen=True, slots=True)
class TopicEnd:
    """Where a topic ends.

    Attributes:
        offset: The offset that the next message gets; None if the topic has several partitions, so no one end.
        number: The number of the last message. 0: none was ever sent. None: it is not known.
    """

    offset: int | None
    number: int | None


def number_of(value: bytes) -> int | None:
    """The history number of a message; None if it is not one of ours."""
    try:
        number = json.loads(value)["history_number"]
    except (ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None


def read_end(connection: Mapping[str, Any], topic: str, before: int | None, timeout_s: float) -> TopicEnd:
    """Reads the last message of a topic of one partition.

    Args:
        connection: Arguments of `KafkaConsumer`.
        topic: The topic.
        before: The message is the last one before this offset; None: before the topic's end.
        timeout_s: The longest wait for it.

    Raises:
        KafkaError: The broker does not answer in time.
    """
    consumer: Any = KafkaConsumer(
        **connection, enable_auto_commit=False, auto_offset_reset="none", bootstrap_timeout_ms=int(1000 * timeout_s)
    )
    try:
        if consumer.partitions_for_topic(topic) != {0}:
            return TopicEnd(None, None)
        where = TopicPartition(topic, 0)
        first, end = consumer.beginning_offsets([where])[where], consumer.end_offsets([where])[where]
        at = end if before is None else min(before, end)
        if at == 0:
            return TopicEnd(end, 0)
        if first == at:
            return TopicEnd(end, None)
        consumer.assign([where])
        consumer.seek(where, max(first, at - _BACK))
        number, until = None, time.monotonic() + timeout_s
        while consumer.position(where) < at:
            for record in consumer.poll(timeout_ms=100).get(where, []):
                if record.offset < at:
                    number = number_of(record.value or b"")
            if time.monotonic() > until:
                raise KafkaTimeoutError(f"no record within {timeout_s} s")
        return TopicEnd(end, number)
    finally:
        consumer.close(autocommit=False)
