"""How far the topic `assignments` goes: epoch and number of its last message, or of the last one before an offset."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError, KafkaTimeoutError

from storage.records import StoreEpoch

__all__ = ["LastMessage", "TopicEnd", "last_message", "read_end"]

_BACK = 8
"""So many offsets are searched for a message: a producer with transactions leaves offsets without one."""


@dataclass(frozen=True, slots=True)
class LastMessage:
    """The last message of the topic: its history number (0: none was ever sent), and the epoch that it is of.

    Messages of release 0.1 have no epoch.
    """

    number: int
    epoch: StoreEpoch | None = None


@dataclass(frozen=True, slots=True)
class TopicEnd:
    """Where a topic ends.

    Attributes:
        offset: The offset that the next message gets; None if the topic has several partitions, so no one end.
        last: The last message; None: it is not known.
    """

    offset: int | None
    last: LastMessage | None


def last_message(value: bytes) -> LastMessage | None:
    """What a message says of itself; None if it is not one of ours."""
    try:
        content = json.loads(value)
        number, created_ms = int(content["history_number"]), int(content.get("epoch", 0))
        return LastMessage(number, StoreEpoch(created_ms, str(content["store_id"])) if created_ms else None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


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
            return TopicEnd(end, LastMessage(0))
        if first == at:
            return TopicEnd(end, None)
        consumer.assign([where])
        consumer.seek(where, max(first, at - _BACK))
        last, until = None, time.monotonic() + timeout_s
        while consumer.position(where) < at:
            try:
                records = consumer.poll(timeout_ms=100).get(where, [])
            except CorruptRecordError:
                return TopicEnd(end, None)  # damage on the broker's disk must not stop what comes
            for record in records:
                if record.offset < at:
                    last = last_message(record.value or b"")
            if time.monotonic() > until:
                raise KafkaTimeoutError(f"no record within {timeout_s} s")
        return TopicEnd(end, last)
    finally:
        consumer.close(autocommit=False)
