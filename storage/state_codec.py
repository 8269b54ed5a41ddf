"""The bytes of the state of a store, all in the family `default`. `storage.codec` has the other families.

key               value
"state"           i64 offset, u32 checksum, u64 revision, u64 images, u64 clusters, u64 history number,
                  u64 duplicates, u64 superseded, text log id, i64 base (absent before format 2: 0), and from
                  format 3: u64 deleted, u64 replayed, u64 tombstones, u16 + requests (text topic id,
                  u32 partition, u64 offset), u16 + kinds, u16 + required kinds, and from format 5: u64 last
                  override applied, u64 last undo whose images are queued, and from format 6: u64 by how much
                  sequences are ahead, u64 first history number that is kept
"published"       u64 history number
"published-mark"  u64 number, u64 offset, u64 run offset, u64 base number, i64 base offset, text topic id (from
                  format 2; may be missing)
"unscored-", u64  u64 place: the record at this offset placed an unscored image there, as a history entry said that
  offset          was swept (from format 6)
"forget-key"      32 random bytes, by which forgotten images have pseudonyms
"dropped"         u64 history number: plans of bulk moves were removed since the last scrub, and from this number on
                  one may have written history ahead
"bulk"            u64 number of the bulk move that is under way
"erasing"         u8 step, u64 history number, text image id (while something is erased)
"first-load"      JSON: the manifest that the store began with (from format 6; may be missing)
"delta-", id      JSON: how far the manifest of this id is whose rows go through the order
"epoch"           i64 created, u64 first history number, text store id (from format 2)
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, replace
from typing import Literal

from core.first_loads import LoadRequest, LoadState
from core.manifest_rows import RowResult
from core.pseudonyms import Pseudonyms
from core.types import ImageId, LogPosition, RequestSource
from storage.cursor import U16, Cursor, packed_text
from storage.errors import CorruptedError
from storage.records import DeltaProgress, EraseCursor, FirstLoad, PublishedMark, RowExample, StoreEpoch, StoreState

__all__ = [
    "decode_delta_progress",
    "decode_epoch",
    "decode_erase_cursor",
    "decode_first_load",
    "decode_mark",
    "decode_pseudonyms",
    "decode_state",
    "encode_delta_progress",
    "encode_epoch",
    "encode_erase_cursor",
    "encode_first_load",
    "encode_mark",
    "encode_state",
]

_STATE = struct.Struct(">qIQQQQQQ")
_BASE = struct.Struct(">q")
_COUNTS = struct.Struct(">QQQ")
_OVERRIDES = struct.Struct(">QQ")
_HISTORY = struct.Struct(">QQ")
_REQUEST = struct.Struct(">IQ")
_EPOCH = struct.Struct(">qQ")
_MARK = struct.Struct(">QQQQq")
_CURSOR = struct.Struct(">BQ")

_STEPS: tuple[Literal["own", "history", "images"], ...] = ("own", "history", "images")


def encode_state(state: StoreState) -> bytes:
    """The value of the store's state."""
    position = state.position
    numbers = _STATE.pack(
        position.offset,
        position.checksum,
        state.revision,
        state.images,
        state.clusters,
        state.history_number,
        state.duplicates,
        state.superseded,
    )
    counts = _COUNTS.pack(state.deleted, state.replayed, state.tombstones)
    requests = [
        packed_text(source.topic_id) + _REQUEST.pack(source.partition, offset)
        for source, offset in sorted(state.requests.items())
    ]
    lists = [requests, *([packed_text(kind) for kind in sorted(kinds)] for kinds in (state.kinds, state.required))]
    rest = [U16.pack(len(each)) + b"".join(each) for each in lists]
    overrides = _OVERRIDES.pack(state.overrides, state.requeued)
    history = _HISTORY.pack(state.ahead, state.history_first)
    return b"".join(
        (numbers, packed_text(position.log_id), _BASE.pack(position.base), counts, *rest, overrides, history)
    )


def decode_state(value: bytes) -> StoreState:
    """The store's state.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    cursor = Cursor("the state of the store", value)
    offset, checksum, revision, images, clusters, number, duplicates, superseded = cursor.numbers(_STATE)
    log_id = cursor.text()
    (base,) = cursor.numbers(_BASE) if cursor.left else (0,)
    position = LogPosition(log_id, offset, checksum, base)
    state = StoreState(position, revision, images, clusters, number, duplicates, superseded)
    if not cursor.left:
        return state
    deleted, replayed, tombstones = cursor.numbers(_COUNTS)
    requests = dict(_request(cursor) for _ in range(cursor.numbers(U16)[0]))
    kinds, required = (frozenset(cursor.text() for _ in range(cursor.numbers(U16)[0])) for _ in range(2))
    overrides, requeued = cursor.numbers(_OVERRIDES) if cursor.left else (0, 0)
    ahead, history_first = cursor.numbers(_HISTORY) if cursor.left else (0, 1)
    cursor.end()
    return replace(
        state,
        deleted=deleted,
        replayed=replayed,
        tombstones=tombstones,
        requests=requests,
        kinds=kinds,
        required=required,
        overrides=overrides,
        requeued=requeued,
        ahead=ahead,
        history_first=history_first,
    )


def _request(cursor: Cursor) -> tuple[RequestSource, int]:
    topic_id = cursor.text()
    partition, offset = cursor.numbers(_REQUEST)
    return RequestSource(topic_id, partition), offset


def encode_epoch(epoch: StoreEpoch) -> bytes:
    """The value of the store's epoch."""
    return _EPOCH.pack(epoch.created_ms, epoch.first) + packed_text(epoch.store_id)


def decode_epoch(value: bytes) -> StoreEpoch:
    """The store's epoch.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    cursor = Cursor("the epoch of the store", value)
    created_ms, first = cursor.numbers(_EPOCH)
    store_id = cursor.text()
    cursor.end()
    return StoreEpoch(created_ms, store_id, first)


def encode_mark(mark: PublishedMark) -> bytes:
    """The value of the mark of what is published."""
    numbers = _MARK.pack(mark.number, mark.offset, mark.run_offset, mark.base_number, mark.base_offset)
    return numbers + packed_text(mark.topic_id)


def decode_mark(value: bytes) -> PublishedMark:
    """The mark of what is published.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    cursor = Cursor("the mark of what is published", value)
    number, offset, run_offset, base_number, base_offset = cursor.numbers(_MARK)
    topic_id = cursor.text()
    cursor.end()
    return PublishedMark(topic_id, number, offset, run_offset, base_number, base_offset)


def encode_erase_cursor(cursor: EraseCursor) -> bytes:
    """The value of how far images are erased."""
    return _CURSOR.pack(_STEPS.index(cursor.step), cursor.number) + packed_text(cursor.image_id)


def decode_erase_cursor(value: bytes) -> EraseCursor:
    """How far images are erased.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    cursor = Cursor("how far images are erased", value)
    step, number = cursor.numbers(_CURSOR)
    image_id = cursor.text()
    cursor.end()
    if step >= len(_STEPS):
        raise cursor.damage(f"{step} is no step")
    return EraseCursor(_STEPS[step], number, image_id)


def encode_first_load(load: FirstLoad) -> bytes:
    """The value of the manifest that a store began with."""
    return json.dumps(asdict(load), sort_keys=True).encode()


def decode_first_load(value: bytes) -> FirstLoad:
    """The manifest that a store began with.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    try:
        return FirstLoad(**json.loads(value))
    except (ValueError, TypeError) as error:
        raise CorruptedError(f"what the store was loaded from is damaged: {error}") from None


def encode_delta_progress(progress: DeltaProgress) -> bytes:
    """The value of how far a manifest is whose rows go through the order."""
    return json.dumps(asdict(progress), sort_keys=True).encode()


def decode_delta_progress(value: bytes) -> DeltaProgress:
    """How far a manifest is whose rows go through the order.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    try:
        told = json.loads(value)
        return DeltaProgress(
            LoadRequest(**told.pop("request")),
            LoadState(told.pop("state")),
            counts={RowResult(name): int(count) for name, count in told.pop("counts").items()},
            examples=tuple(
                RowExample(row, ImageId(image_id), RowResult(result)) for row, image_id, result in told.pop("examples")
            ),
            **told,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptedError(f"how far a manifest is cannot be read: {error}") from None


def decode_pseudonyms(value: bytes) -> Pseudonyms:
    """The names of forgotten images, from their key.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    try:
        return Pseudonyms(value)
    except ValueError as error:
        raise CorruptedError(f"the key of forgotten images is damaged: {error}") from None
