"""Finds records of an embedding topic that cannot be read, and sends the readable ones before them again.

Kafka keeps a checksum with each batch of records, and every client checks it. A batch whose bytes have changed on the
broker's disk stops each reader that comes to it, for ever. Nothing in it can be trusted, so it is skipped as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError, KafkaError

from core.errors import UnavailableError
from stream.broker import producer
from stream.kafka_access import KafkaAccess
from stream.read_marks import Loss

__all__ = ["find_damage", "send_again"]

_PATIENCE_S = 10.0


def find_damage(access: KafkaAccess, topic: str, partition: int, start: int, end: int) -> Loss | None:
    """The first offsets of a partition that cannot be read; None if all can.

    Args:
        access: How to reach Kafka.
        topic: The topic.
        partition: The partition.
        start: Where reading begins.
        end: The partition's end.

    Raises:
        UnavailableError: Kafka does not answer.
    """
    first = start
    try:
        for record in _records(access, TopicPartition(topic, partition), start, end):
            first = record.offset + 1
    except CorruptRecordError:
        return Loss(topic, partition, first, _first_readable(access, TopicPartition(topic, partition), first, end))
    except KafkaError as error:
        raise _unavailable(access, error) from error
    return None


def send_again(access: KafkaAccess, damage: Loss, start: int, max_message_bytes: int) -> int:
    """Sends the records from `start` up to the damage to the topic again; returns how many.

    The job may not have read them yet, and will begin behind the damage. Those that it has read are ignored.

    Raises:
        UnavailableError: Kafka does not take them all.
    """
    sender = producer(access, max_message_bytes)
    try:
        sent = [
            sender.send(damage.topic, key=record.key, value=record.value, headers=list(record.headers))
            for record in _records(access, TopicPartition(damage.topic, damage.partition), start, damage.first)
        ]
        sender.flush(_PATIENCE_S * 3)
        for each in sent:
            each.get(timeout=_PATIENCE_S)
    except KafkaError as error:
        raise _unavailable(access, error) from error
    finally:
        sender.close(timeout=1)
    return len(sent)


def _first_readable(access: KafkaAccess, where: TopicPartition, damaged: int, end: int) -> int:
    """The first offset behind a damaged one from which records can be read, at most `end`."""
    low, step = damaged, 1
    while low + step < end and not _readable(access, where, low + step, end):
        low, step = low + step, 2 * step
    high = min(low + step, end)
    while high - low > 1:
        middle = (low + high) // 2
        if _readable(access, where, middle, end):
            high = middle
        else:
            low = middle
    return high


def _readable(access: KafkaAccess, where: TopicPartition, offset: int, end: int) -> bool:
    try:
        next(_records(access, where, offset, end), None)
    except CorruptRecordError:
        return False
    return True


def _records(access: KafkaAccess, where: TopicPartition, start: int, end: int) -> Iterator[Any]:
    """The records from an offset to another. A connection that met a damaged batch is of no more use."""
    consumer = KafkaConsumer(**access.python_options(), enable_auto_commit=False, auto_offset_reset="none")
    try:
        consumer.assign([where])
        consumer.seek(where, start)
        while consumer.position(where) < end:
            for record in consumer.poll(timeout_ms=1_000).get(where, []):
                if record.offset >= end:
                    return
                yield record
    finally:
        consumer.close(autocommit=False)


def _unavailable(access: KafkaAccess, error: KafkaError) -> UnavailableError:
    return UnavailableError(f"Kafka at {access.bootstrap}: {error or type(error).__name__}")
