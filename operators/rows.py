"""What travels between the operators, and its Flink types.

    embedding tables --Row(payload, partition, offset, traceparent, arrived)--> batches
    batches --bytes of `operators.record_batches`--> decode
    decode --Row(image id, half bytes)--> keyed by image id, join gets the half alone
    join --Row(image id bytes, joined record, traceparent)--> topic `joined`
    joined table --Row(0, Row(payload, offset, traceparent))--> keyed by 0, search gets the inner row
    search, score --Row(0, InFlightBatch bytes)--> keyed by 0, score and assign get the bytes
    files of a folder --Row(0, Row(name, content, problem))--> keyed by 0, watch gets the inner row
    all of them, aside --Row(key bytes, dead letter, traceparent)--> topic `dead-letter`

The sequence has one key, so one order. Rows carry their key beside the value, so that no further operator has to
compute it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyflink.common import Row
from pyflink.common.typeinfo import Types

from operators.in_flight_pb2 import InFlightBatch

__all__ = [
    "BYTES_TYPE",
    "EMBEDDING_ROW_TYPE",
    "FILE_ROW_TYPE",
    "IMAGE_KEY_TYPE",
    "JOINED_ROW_TYPE",
    "KEYED_FILE_TYPE",
    "KEYED_HALF_TYPE",
    "KEYED_IN_FLIGHT_TYPE",
    "RECORD_TYPE",
    "SEQUENCE_KEY",
    "SEQUENCE_KEY_TYPE",
    "batches",
    "record",
    "records",
]

BYTES_TYPE = Types.PRIMITIVE_ARRAY(Types.BYTE())
"""`bytes`, as they are: a batch before decode, a half behind it, an `InFlightBatch` between steps of the sequence."""

EMBEDDING_ROW_TYPE = Types.ROW([BYTES_TYPE, Types.INT(), Types.LONG(), BYTES_TYPE, Types.INSTANT()])
"""A record of an embedding topic: payload (none for a tombstone), partition, offset, the header `traceparent` (none if
there is none), Kafka's timestamp."""

IMAGE_KEY_TYPE = Types.STRING()
"""The image id, as the join is keyed."""

KEYED_HALF_TYPE = Types.ROW([IMAGE_KEY_TYPE, BYTES_TYPE])
"""What decode emits: the image id and the bytes of `operators.pairing_codec.encode_half`."""

RECORD_TYPE = Types.ROW([BYTES_TYPE, BYTES_TYPE, BYTES_TYPE])
"""Key, value and header `traceparent` (none if there is none) of a record of `joined`, or of a dead letter."""

JOINED_ROW_TYPE = Types.ROW([BYTES_TYPE, Types.LONG(), BYTES_TYPE])
"""A record of `joined`: payload (none for a tombstone), offset, the header `traceparent` (none if there is none)."""

SEQUENCE_KEY = 0
"""The one key of search, score and assign."""

SEQUENCE_KEY_TYPE = Types.INT()
"""The type of that key."""

KEYED_IN_FLIGHT_TYPE = Types.ROW([SEQUENCE_KEY_TYPE, BYTES_TYPE])
"""What search and score emit."""

FILE_ROW_TYPE = Types.ROW([Types.STRING(), BYTES_TYPE, Types.STRING()])
"""A file: its name, its content (none: it cannot be read), and why it cannot be read (none: it can). Where the name
begins with a dot: a word on the folder, and why that does not answer (none: it does). The word ends with `-` and when
it was said, in milliseconds since the epoch."""

KEYED_FILE_TYPE = Types.ROW([SEQUENCE_KEY_TYPE, FILE_ROW_TYPE])
"""What the source of files emits."""

MAX_BATCH_BYTES = 4_194_304
"""Of one row between the steps of the sequence. A few rows are in memory at once."""


def record(key: bytes, value: bytes, traceparent: bytes = b"") -> Row:
    """A row for a Kafka sink; it gets no header `traceparent` where that has no bytes."""
    return Row(key, value, traceparent or None)


def batches(in_flight: Iterable[bytes], max_bytes: int = MAX_BATCH_BYTES) -> list[Row]:
    """Rows for the next step of the sequence, as few as the limit allows; a larger record goes alone.

    A row for each record would make each step enter Python for each record, and six operators share one GIL.

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
