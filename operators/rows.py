"""What travels between the operators, and its Flink types.

    embedding tables --Row(payload, topic, partition, offset, arrived)--> decode
    decode --Row(image id, half)--> keyed by image id, join gets the half alone
    join --Row(image id bytes, joined record)--> topic `joined`
    joined table --Row(0, Row(payload, topic, partition, offset))--> keyed by 0, search gets the inner row
    search, score --Row(0, InFlightBatch bytes)--> keyed by 0, score and assign get the bytes
    all of them, aside --Row(key bytes, dead letter)--> topic `dead-letter`

The sequence has one key, so one order. Rows carry their key beside the value, so that no further operator has to
compute it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pyflink.common import Row
from pyflink.common.typeinfo import Types

from core.dead_letters import Provenance
from operators.in_flight_pb2 import InFlightBatch

__all__ = [
    "HALF_TYPE",
    "IMAGE_KEY_TYPE",
    "IN_FLIGHT_TYPE",
    "JOINED_ROW_TYPE",
    "KEYED_HALF_TYPE",
    "KEYED_IN_FLIGHT_TYPE",
    "RECORD_TYPE",
    "SEQUENCE_KEY",
    "SEQUENCE_KEY_TYPE",
    "KafkaRecord",
    "batches",
    "kafka_record",
    "record",
    "records",
]

BYTES_TYPE = Types.PRIMITIVE_ARRAY(Types.BYTE())
"""`bytes`, as they are."""

IMAGE_KEY_TYPE = Types.STRING()
"""The image id, as the join is keyed."""

HALF_TYPE = Types.PICKLED_BYTE_ARRAY()
"""A `operators.pairing.ArrivedHalf`."""

KEYED_HALF_TYPE = Types.ROW([IMAGE_KEY_TYPE, HALF_TYPE])
"""What decode emits."""

RECORD_TYPE = Types.ROW([BYTES_TYPE, BYTES_TYPE])
"""Key and value of a record for a Kafka sink: of `joined`, and of every dead letter."""

JOINED_ROW_TYPE = Types.ROW([BYTES_TYPE, Types.STRING(), Types.INT(), Types.LONG()])
"""A record of `joined`: payload, topic, partition, offset."""

SEQUENCE_KEY = 0
"""The one key of search, score and assign."""

SEQUENCE_KEY_TYPE = Types.INT()
"""Its type."""

IN_FLIGHT_TYPE = BYTES_TYPE
"""A serialised `InFlightBatch`."""

KEYED_IN_FLIGHT_TYPE = Types.ROW([SEQUENCE_KEY_TYPE, IN_FLIGHT_TYPE])
"""What search and score emit."""

MAX_BATCH_BYTES = 4_194_304
"""Of one row between the steps of the sequence: a few of them are in memory at once."""

NO_TIMESTAMP = -(2**63)
"""What Flink gives as the timestamp of an element that has none."""


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """A record as it was read from Kafka: its bytes (empty for a tombstone) and where it lay."""

    payload: bytes
    source: Provenance


def kafka_record(row: Row, timestamp_ms: int | None = None) -> KafkaRecord:
    """The record of a table row (payload, topic, partition, offset, ...).

    Args:
        row: As the Kafka table gives it.
        timestamp_ms: Flink's timestamp of the element, where it is Kafka's; 0 is noted where there is none.
    """
    if timestamp_ms is None or timestamp_ms == NO_TIMESTAMP:
        timestamp_ms = 0
    source = Provenance(row[1], row[2], row[3], timestamp_ms)
    return KafkaRecord(bytes(row[0]) if row[0] is not None else b"", source)


def record(key: bytes, value: bytes) -> Row:
    """A row for a Kafka sink."""
    return Row(key, value)


def batches(in_flight: Iterable[bytes], max_bytes: int = MAX_BATCH_BYTES) -> list[Row]:
    """Rows for the next step of the sequence, as few as the limit allows; a larger record goes alone.

    A row for each record would cost each step as many entries into Python, where six operators share one lock.

    Args:
        in_flight: Serialised `InFlight` records, in order.
        max_bytes: Of one row.
    """
    return [Row(SEQUENCE_KEY, InFlightBatch(records=part).SerializeToString()) for part in _parts(in_flight, max_bytes)]


def records(batch: bytes) -> list[bytes]:
    """The serialised `InFlight` records of a row's bytes."""
    return list(InFlightBatch.FromString(bytes(batch)).records)


def _parts(in_flight: Iterable[bytes], max_bytes: int) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    room = max_bytes
    for each in in_flight:
        if part and len(each) > room:
            yield part
            part, room = [], max_bytes
        part.append(each)
        room -= len(each)
    if part:
        yield part
