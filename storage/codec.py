"""The bytes of every key and value on disk. Numbers are big-endian and of fixed width, so byte order is scan order.

A text is UTF-8 after a u16 length. `?` marks a part that is there only if its flag is set. Flags: 1 score, 2 matched,
4 old head, 8 truncated and 16 unscored (which have no part), 32 override, 64 rollback (beside 32) or first load (alone,
without a part), 128 ahead. Format 1 had neither flag 16 nor dead letters; there an image is unscored if its cause says
so. Before format 3 there were no tombstones, and nothing was deleted. Before format 5 there were neither overrides nor
moments. Before format 6 nothing was rolled back or loaded, ended clusters were not kept, nothing was moved in bulk, and
nothing was forgotten.

    family       key                              value
    images       id                               u64 version, i64 place, u64 edge sequence, text head,
                                                  i64 decided, i64 created, i64 arrived, u8 cause, u8 flags, f64 score,
                                                  text matched?, text model version, text index version
    clusters     id of the head                   u64 count (its highest bit: the head is deleted), i64 founded,
                                                  founding code
    edges        text head, u64 sequence          id of the member
    embeddings   place (i64, sign bit flipped)    u64 version, text id, u32 + score code, u32 + search vector,
                                                  u32 + score vector
    history      u64 number                       u64 version, i64 place, i64 offset, i64 decided, i64 created,
                                                  i64 arrived, u8 cause, u8 flags, f64 score, text image id, text new
                                                  head (not of a deleted image or a blank), text old head?,
                                                  text matched?, text model version, text index version,
                                                  u64 override?, i64 ahead?
    history_of   text image id, u64 number        nothing: it makes the history entries of an image known
    ended        text head, u64 number            as in clusters: the cluster before the history entry that ended it
    moments      u64 second since the epoch       u64 number of the last history entry that was written in it
    tombstones   id, or pseudonym of one that     u64 version, i64 position, i64 deleted, text author, text reason
                 was forgotten
    erasures     pseudonym                        u64 last number, i64 position, i64 forgotten, i64 erased, u8 state,
                                                  text image id (empty once no other record has it)
    dead_letters u64 offset                       u32 + key, u32 + value, u32 + traceparent
    default      "state", ...                     see `storage.state_codec`

    planned      id                               as in images: the image after the bulk move that is under way
    deltas       id of the head                   i64 by how much the bulk move changes the count, u8 1 if it makes or
                                                  replaces what is in clusters, u64 flag of a deleted head and 0,
                                                  i64 founded, founding code
    operations   u64 number                       JSON: how far a bulk move is

An edge key starts with the length of the head's id. So the edges of a head are contiguous, and a page of a cluster is
one range. Decoding checks every length, number and text; what does not fit raises `CorruptedError`.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final

from core.errors import BadInputError
from core.types import (
    NO_HEAD,
    Cause,
    Cluster,
    DeadLetterRecord,
    ImageId,
    Membership,
    Tombstone,
    Trigger,
    Versions,
)
from storage.bulk.deltas import ClusterDelta
from storage.cursor import U16, Cursor, packed_blob, packed_text
from storage.errors import CorruptedError
from storage.limits import id_bytes
from storage.records import (
    ClusterRecord,
    Edge,
    EmbeddingRecord,
    EndedCluster,
    Erasure,
    ErasureState,
    HistoryEntry,
    ImageRecord,
)

__all__ = [
    "CAUSE_NUMBERS",
    "FORMAT_VERSION",
    "HISTORY_BY_IMAGE",
    "HISTORY_NUMBERS",
    "IMAGE_NUMBERS",
    "OLDEST_FORMAT",
    "TRIGGER_FLAGS",
    "VERDICT_NUMBERS",
    "decode_cluster",
    "decode_cluster_front",
    "decode_dead_letter",
    "decode_delta",
    "decode_edge",
    "decode_edge_key",
    "decode_embedding",
    "decode_ended",
    "decode_erasure",
    "decode_head",
    "decode_history",
    "decode_image",
    "decode_membership",
    "decode_number",
    "decode_tombstone",
    "decoded_id",
    "edge_key",
    "edge_prefix",
    "encode_cluster",
    "encode_dead_letter",
    "encode_delta",
    "encode_embedding",
    "encode_erasure",
    "encode_history",
    "encode_image",
    "encode_number",
    "encode_tombstone",
    "image_key",
    "place_key",
    "verdict_flags",
]

FORMAT_VERSION: Final = 6
"""Incremented with every change of the bytes, or of the files beside them: format 4 names its database, format 5 knows
overrides, format 6 bulk moves, rollbacks, forgotten images and first loads."""

HISTORY_BY_IMAGE: Final = 3
"""The first version that knows history by image."""

OLDEST_FORMAT: Final = 1
"""The oldest version that is read. Format 1 has no base beside the position, no epoch and no dead letters."""

IMAGE_NUMBERS = struct.Struct(">QqQ")
"""Before the head of an image."""

VERDICT_NUMBERS = struct.Struct(">qqqBBd")
"""Behind the head of an image."""

HISTORY_NUMBERS = struct.Struct(">QqqqqqBBd")
"""At the start of a history entry."""

_U64 = struct.Struct(">Q")
_I64 = struct.Struct(">q")
_CLUSTER = struct.Struct(">Qq")
_DELTA = struct.Struct(">qB")
_TOMBSTONE = struct.Struct(">Qqq")
_ERASURE = struct.Struct(">QqqqB")

_HAS_SCORE, _HAS_MATCHED, _HAS_OLD_HEAD, _TRUNCATED, _UNSCORED, _OVERRIDDEN, _ROLLED_BACK, _AHEAD = (
    1 << bit for bit in range(8)
)

CAUSE_NUMBERS: Final = {
    Cause.FOUNDED: 1,
    Cause.MATCHED: 2,
    Cause.ADOPTED: 3,
    Cause.KEPT: 4,
    Cause.UNSCORED: 5,
    Cause.DELETED: 6,
    Cause.PINNED: 7,
    Cause.PARTED: 8,
    Cause.RENAMED: 9,
    Cause.FORGOTTEN: 10,
    Cause.BOOTSTRAPPED: 11,
}
"""How causes are written."""

_CAUSE_OF: Final = {number: cause for cause, number in CAUSE_NUMBERS.items()}

_NOWHERE: Final = (Cause.DELETED, Cause.FORGOTTEN)
"""Entries with these causes have no new head."""

TRIGGER_FLAGS: Final = {
    Trigger.STREAM: 0,
    Trigger.OVERRIDE: _OVERRIDDEN,
    Trigger.ROLLBACK: _OVERRIDDEN | _ROLLED_BACK,
    Trigger.MANIFEST: _ROLLED_BACK,
}
"""The flags of what moved an image, in a history entry."""

_TRIGGER_OF: Final = {flags: trigger for trigger, flags in TRIGGER_FLAGS.items()}

_ERASURE_STATES: Final = frozenset(ErasureState)

_SIGN = 1 << 63

_HEAD_DELETED = 1 << 63
"""In the count of a cluster."""


def decoded_id(what: str, key: bytes) -> ImageId:
    """The id that a key of a family is.

    Raises:
        CorruptedError: It is none.
    """
    try:
        text = key.decode()
        id_bytes(ImageId(text))
    except (UnicodeDecodeError, BadInputError):
        raise CorruptedError(f"a key of {what} is damaged: {key[:64]!r} is not an id") from None
    return ImageId(text)


def verdict_flags(
    score: float | None, matched: ImageId | None, truncated: bool = False, old_head: ImageId | None = None
) -> int:
    """Which parts the verdict of an image or of a history entry has."""
    has_score = _HAS_SCORE if score is not None else 0
    has_matched = _HAS_MATCHED if matched is not None else 0
    return has_score | has_matched | (_HAS_OLD_HEAD if old_head is not None else 0) | (_TRUNCATED if truncated else 0)


def _cause(cursor: Cursor, number: int) -> Cause:
    cause = _CAUSE_OF.get(number)
    if cause is None:
        raise cursor.damage(f"{number} is not a cause")
    return cause


def image_key(image_id: ImageId) -> bytes:
    """The key of an image, and of the cluster that it is the head of.

    Raises:
        BadInputError: The id is not valid.
    """
    return id_bytes(image_id)


def encode_image(image: ImageRecord) -> bytes:
    """The value of an image."""
    return b"".join(
        (
            IMAGE_NUMBERS.pack(image.version, image.place, image.edge_sequence),
            packed_text(image.head),
            VERDICT_NUMBERS.pack(
                image.decided_at_ms,
                image.created_at_ms,
                image.arrived_at_ms,
                CAUSE_NUMBERS[image.cause],
                verdict_flags(image.score, image.matched, image.truncated) | (_UNSCORED if image.unscored else 0),
                image.score or 0.0,
            ),
            b"" if image.matched is None else packed_text(image.matched),
            packed_text(image.versions.model),
            packed_text(image.versions.index),
        )
    )


def decode_image(key: bytes, value: bytes) -> ImageRecord:
    """An image from its key and value.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    image_id = decoded_id("images", key)
    cursor = Cursor(f"the image {image_id!r}", value)
    version, place, edge_sequence = cursor.numbers(IMAGE_NUMBERS)
    head = cursor.id()
    decided, created, arrived, cause, flags, score = cursor.numbers(VERDICT_NUMBERS)
    if flags & ~(_HAS_SCORE | _HAS_MATCHED | _TRUNCATED | _UNSCORED):
        raise cursor.damage(f"it has the flags {flags}")
    matched = cursor.id() if flags & _HAS_MATCHED else None
    versions = Versions(cursor.text(), cursor.text())
    cursor.end()
    return ImageRecord(
        image_id=image_id,
        version=version,
        place=place,
        head=head,
        score=score if flags & _HAS_SCORE else None,
        matched=matched,
        cause=_cause(cursor, cause),
        decided_at_ms=decided,
        created_at_ms=created,
        arrived_at_ms=arrived,
        versions=versions,
        edge_sequence=edge_sequence,
        truncated=bool(flags & _TRUNCATED),
        unscored=bool(flags & _UNSCORED) or cause == CAUSE_NUMBERS[Cause.UNSCORED],
    )


def decode_head(image_id: ImageId, value: bytes) -> ImageId:
    """The head alone, from an image's value: readers ask for thousands.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    at, length = IMAGE_NUMBERS.size + U16.size, 0
    try:
        (length,) = U16.unpack_from(value, IMAGE_NUMBERS.size)
        head = value[at : at + length].decode()
    except (struct.error, UnicodeDecodeError):
        head = ""
    if not head or len(value) < at + length:
        raise CorruptedError(f"the image {image_id!r} is damaged: its head cannot be read")
    return ImageId(head)


def decode_edge_key(value: bytes) -> bytes:
    """The key of the edge by which an image is listed, from the value of the image.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    cursor = Cursor("an image", value)
    _version, _place, sequence = cursor.numbers(IMAGE_NUMBERS)
    return edge_key(cursor.id(), sequence)


def decode_membership(image_id: ImageId, value: bytes) -> Membership:
    """Version, place and head from the front of an image's value: a look-up reads thousands.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    try:
        version, place, _sequence = IMAGE_NUMBERS.unpack_from(value)
        (length,) = U16.unpack_from(value, IMAGE_NUMBERS.size)
        head = value[IMAGE_NUMBERS.size + 2 : IMAGE_NUMBERS.size + 2 + length].decode()
    except (struct.error, UnicodeDecodeError):
        raise CorruptedError(f"the image {image_id!r} is damaged: it has no head") from None
    if not length or len(value) < IMAGE_NUMBERS.size + 2 + length:
        raise CorruptedError(f"the image {image_id!r} is damaged: it has no head")
    return Membership(image_id, version, place, ImageId(head))


def encode_cluster(cluster: ClusterRecord) -> bytes:
    """The value of a cluster."""
    flag = _HEAD_DELETED if cluster.head_deleted else 0
    return _CLUSTER.pack(cluster.count | flag, cluster.founded_at_ms) + cluster.founding_code


def decode_cluster(key: bytes, value: bytes) -> ClusterRecord:
    """A cluster from its key and value.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    head = decoded_id("clusters", key)
    cursor = Cursor(f"the cluster {head!r}", value)
    count, founded = cursor.numbers(_CLUSTER)
    return ClusterRecord(head, count & ~_HEAD_DELETED, cursor.rest(), founded, bool(count & _HEAD_DELETED))


def decode_cluster_front(head: ImageId, value: bytes) -> Cluster:
    """What the cluster rule needs of a cluster: a look-up reads thousands.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    try:
        count, _founded = _CLUSTER.unpack_from(value)
    except struct.error:
        raise CorruptedError(f"the cluster {head!r} is damaged: it has no count") from None
    return Cluster(head, count & ~_HEAD_DELETED, value[_CLUSTER.size :], bool(count & _HEAD_DELETED))


def edge_prefix(head: ImageId) -> bytes:
    """The prefix of the keys of all edges of a head, and of no other key."""
    encoded = id_bytes(head)
    return U16.pack(len(encoded)) + encoded


def edge_key(head: ImageId, sequence: int) -> bytes:
    """The key of an edge. The edges of one head sort by sequence."""
    return edge_prefix(head) + _U64.pack(sequence)


def decode_edge(key: bytes, value: bytes) -> Edge:
    """An edge from its key and value (the member's id).

    Raises:
        CorruptedError: The bytes are damaged.
    """
    cursor = Cursor(f"the edge {key[:64]!r}", key)
    head = cursor.id()
    (sequence,) = cursor.numbers(_U64)
    cursor.end()
    return Edge(head, sequence, decoded_id("edges", value))


def place_key(place: int) -> bytes:
    """The key of the embeddings at a place. Keys sort by place, negative places included."""
    return _U64.pack((place + _SIGN) % (1 << 64))


def encode_embedding(embedding: EmbeddingRecord) -> bytes:
    """The value of an image's embeddings."""
    return b"".join(
        (
            _U64.pack(embedding.version),
            packed_text(embedding.image_id),
            packed_blob(embedding.score_code),
            packed_blob(embedding.search_vector),
            packed_blob(embedding.score_vector),
        )
    )


def decode_embedding(key: bytes, value: bytes) -> EmbeddingRecord:
    """An image's embeddings from their key and value.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    place = decode_number("embeddings", key) - _SIGN
    cursor = Cursor(f"the embeddings at place {place}", value)
    (version,) = cursor.numbers(_U64)
    record = EmbeddingRecord(place, cursor.id(), version, cursor.blob(), cursor.blob(), cursor.blob())
    cursor.end()
    return record


def encode_history(entry: HistoryEntry) -> bytes:
    """The value of a history entry."""
    by = TRIGGER_FLAGS[entry.trigger] | (_AHEAD if entry.ahead else 0)
    return b"".join(
        (
            HISTORY_NUMBERS.pack(
                entry.version,
                entry.place,
                entry.offset,
                entry.decided_at_ms,
                entry.created_at_ms,
                entry.arrived_at_ms,
                CAUSE_NUMBERS[entry.cause],
                verdict_flags(entry.score, entry.matched, entry.truncated, entry.old_head) | by,
                entry.score or 0.0,
            ),
            packed_text(entry.image_id),
            b"" if entry.cause in _NOWHERE else packed_text(entry.new_head),
            b"" if entry.old_head is None else packed_text(entry.old_head),
            b"" if entry.matched is None else packed_text(entry.matched),
            packed_text(entry.versions.model),
            packed_text(entry.versions.index),
            encode_number(entry.reference) if by & _OVERRIDDEN else b"",
            _I64.pack(entry.ahead) if entry.ahead else b"",
        )
    )


def decode_history(key: bytes, value: bytes) -> HistoryEntry:
    """A history entry from its key and value.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    number = decode_number("history", key)
    cursor = Cursor(f"the history entry {number}", value)
    version, place, offset, decided, created, arrived, cause, flags, score = cursor.numbers(HISTORY_NUMBERS)
    trigger = _TRIGGER_OF.get(flags & (_OVERRIDDEN | _ROLLED_BACK))
    if trigger is None or flags & _UNSCORED:
        raise cursor.damage(f"it has the flags {flags}")
    image_id = cursor.id()
    new_head = NO_HEAD if _CAUSE_OF.get(cause) in _NOWHERE else cursor.id()
    old_head = cursor.id() if flags & _HAS_OLD_HEAD else None
    matched = cursor.id() if flags & _HAS_MATCHED else None
    versions = Versions(cursor.text(), cursor.text())
    (reference,) = cursor.numbers(_U64) if flags & _OVERRIDDEN else (0,)
    (ahead,) = cursor.numbers(_I64) if flags & _AHEAD else (0,)
    cursor.end()
    return HistoryEntry(
        number=number,
        image_id=image_id,
        old_head=old_head,
        new_head=new_head,
        cause=_cause(cursor, cause),
        score=score if flags & _HAS_SCORE else None,
        matched=matched,
        place=place,
        offset=offset,
        version=version,
        decided_at_ms=decided,
        created_at_ms=created,
        arrived_at_ms=arrived,
        versions=versions,
        truncated=bool(flags & _TRUNCATED),
        trigger=trigger,
        reference=reference,
        ahead=ahead,
    )


def decode_ended(key: bytes, value: bytes) -> EndedCluster:
    """A cluster that has ended, from its key (as of an edge) and value (as of a cluster).

    Raises:
        CorruptedError: The bytes are damaged.
    """
    cursor = Cursor(f"the ended cluster {key[:64]!r}", key)
    head = cursor.id()
    (number,) = cursor.numbers(_U64)
    cursor.end()
    return EndedCluster(number, decode_cluster(head.encode(), value))


def encode_delta(delta: ClusterDelta) -> bytes:
    """The value of what a bulk move changes of a cluster."""
    founding = b"" if delta.founding is None else encode_cluster(replace(delta.founding, count=0))
    return _DELTA.pack(delta.by, delta.founding is not None) + founding


def decode_delta(key: bytes, value: bytes) -> ClusterDelta:
    """What a bulk move changes of a cluster, from its key and value.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    cursor = Cursor(f"the delta of the cluster {key[:64]!r}", value)
    by, founds = cursor.numbers(_DELTA)
    rest = cursor.rest()
    if founds > 1 or bool(rest) is not bool(founds):
        raise cursor.damage("its founding is cut off")
    return ClusterDelta(by, decode_cluster(key, rest) if founds else None)


def encode_tombstone(tombstone: Tombstone) -> bytes:
    """The value of what is left of a deleted image."""
    numbers = _TOMBSTONE.pack(tombstone.version, tombstone.position, tombstone.deleted_at_ms)
    return numbers + packed_text(tombstone.author) + packed_text(tombstone.reason)


def decode_tombstone(key: bytes, value: bytes) -> Tombstone:
    """What is left of a deleted image, from its key and value.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    image_id = decoded_id("tombstones", key)
    cursor = Cursor(f"the tombstone of {image_id!r}", value)
    version, position, deleted_at_ms = cursor.numbers(_TOMBSTONE)
    tombstone = Tombstone(image_id, version, position, deleted_at_ms, cursor.text(), cursor.text())
    cursor.end()
    return tombstone


def encode_erasure(erasure: Erasure) -> bytes:
    """The value of how far a forgotten image is erased."""
    numbers = (erasure.through, erasure.position, erasure.forgotten_at_ms, erasure.erased_at_ms, erasure.state)
    return _ERASURE.pack(*numbers) + packed_text(erasure.image_id)


def decode_erasure(key: bytes, value: bytes) -> Erasure:
    """How far a forgotten image is erased, from its key and value.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    pseudonym = decoded_id("erasures", key)
    cursor = Cursor(f"the erasure of {pseudonym!r}", value)
    through, position, forgotten, erased, state = cursor.numbers(_ERASURE)
    image_id = ImageId(cursor.text())
    cursor.end()
    if state not in _ERASURE_STATES:
        raise cursor.damage(f"{state} is no state")
    return Erasure(pseudonym, image_id, through, position, forgotten, ErasureState(state), erased)


def encode_dead_letter(record: DeadLetterRecord) -> bytes:
    """The value of a dead letter that is not published yet."""
    return b"".join(map(packed_blob, record))


def decode_dead_letter(key: bytes, value: bytes) -> tuple[int, DeadLetterRecord]:
    """The offset of a rejected record and its dead letter.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    offset = decode_number("dead letters", key)
    cursor = Cursor(f"the dead letter of offset {offset}", value)
    record = DeadLetterRecord(cursor.blob(), cursor.blob(), cursor.blob())
    cursor.end()
    return offset, record


def encode_number(number: int) -> bytes:
    """A single u64: a history number as key or value."""
    return _U64.pack(number)


def decode_number(what: str, data: bytes) -> int:
    """A single u64.

    Raises:
        CorruptedError: There are not eight bytes.
    """
    if len(data) != _U64.size:
        raise CorruptedError(f"a number of {what} is damaged: it has {len(data)} bytes")
    return int(_U64.unpack(data)[0])
