"""Bytes of the index log: the three kinds of payload in its frames.

All numbers are little-endian, and offsets are positions in the order. `search.index.frames` has the frames. Kind 1, the
records of one call that were applied:

    first offset i64 | records n u32 | inserts m u32 | groups u16 | code bytes u16 | term bytes u8 | log id length u8
    log id | effects u8[n] | checksums u32[n] | versions u64[n] | id lengths u16[n] | ids
    | terms (m, groups) of term bytes each | codes (m, code bytes)

Each record has one effect: it placed an image (its terms and code follow among the inserts), it placed a version that
cannot be searched, or it only passed its offset (version 0, no id). Kind 2, the images hidden by one call, at least
one:

    places i64[n] | hidden from i64

Kind 3, another log from the next record on (see `core.log_epochs`):

    base i64 | log id
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.types import ImageId
from search.index.errors import IndexDamagedError
from search.index.frames import encode_parts, kind_and_payload

__all__ = [
    "MAX_LOG_ID_BYTES",
    "AppliedBatch",
    "Effect",
    "Hidden",
    "Renewed",
    "decode_frame",
    "encode_frame",
]

MAX_LOG_ID_BYTES = 255
"""The longest id of a log, in bytes of UTF-8."""

_BATCH = struct.Struct("<qIIHHBB")
_BASE = struct.Struct("<q")


_TERM_TYPES: dict[int, type[np.unsignedinteger[Any]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32}
"""Types by their bytes: a batch stores its terms in the narrowest type that holds them."""

_Number = TypeVar("_Number", bound=np.generic)


class _Kind(IntEnum):
    BATCH = 1
    HIDDEN = 2
    RENEWED = 3


class Effect(IntEnum):
    """What a record did to the index."""

    PASSED = 0
    """It only passed its offset: a repeated or superseded version, or a record without an image."""
    INSERTED = 1
    """It placed an image version."""
    SKIPPED = 2
    """It placed an image version that cannot be searched."""
    REMOVED = 3
    """It deleted an image: it placed a version that cannot be found."""
    FORGOTTEN = 4
    """It deleted an image of which nothing may stay."""


@dataclass(frozen=True, slots=True, eq=False)
class AppliedBatch:
    """The applied records of one call, column by column."""

    log_id: str
    first_offset: int
    effects: NDArray[np.uint8]
    checksums: NDArray[np.uint32]
    versions: NDArray[np.uint64]
    """0 for a passed record."""
    image_ids: tuple[ImageId, ...]
    """"" for a passed record."""
    terms: NDArray[np.uint32]
    """(inserts, groups)"""
    codes: NDArray[np.uint8]
    """(inserts, code bytes)"""


@dataclass(frozen=True, slots=True)
class Hidden:
    """The images at `places` are hidden from all places after `hidden_from`."""

    places: tuple[int, ...]
    hidden_from: int


@dataclass(frozen=True, slots=True)
class Renewed:
    """The records that follow are those of another log, whose offset 0 is the position `base`."""

    log_id: str
    base: int


def encode_frame(content: AppliedBatch | Hidden | Renewed) -> bytes:
    """The bytes of one frame."""
    if isinstance(content, Hidden):
        numbers = (*content.places, content.hidden_from)
        kind, payload = _Kind.HIDDEN, struct.pack(f"<{len(numbers)}q", *numbers)
    elif isinstance(content, Renewed):
        kind, payload = _Kind.RENEWED, _BASE.pack(content.base) + content.log_id.encode()
    else:
        kind, payload = _Kind.BATCH, _encode_batch(content)
    return encode_parts(kind, payload)


def decode_frame(frame: bytes) -> AppliedBatch | Hidden | Renewed:
    """The content of an intact frame.

    Raises:
        MismatchError: Another version of the format wrote it.
        IndexDamagedError: The content is not valid.
    """
    kind, payload = kind_and_payload(frame)
    try:
        if kind == _Kind.HIDDEN:
            return _decode_hidden(payload)
        if kind == _Kind.RENEWED:
            return Renewed(str(payload[_BASE.size :], "utf-8"), *_BASE.unpack_from(payload))
        if kind == _Kind.BATCH:
            return _decode_batch(payload)
    except (struct.error, ValueError, KeyError) as error:
        raise IndexDamagedError(
            f"a frame of the index log has a correct checksum and invalid content: {error}"
        ) from error
    raise IndexDamagedError(f"a frame of the index log has the unknown kind {kind}")


def _encode_batch(batch: AppliedBatch) -> bytes:
    log_id = batch.log_id.encode()
    ids = [image_id.encode() for image_id in batch.image_ids]
    largest = int(batch.terms.max(initial=0))
    term_bytes = 1 if largest < 2**8 else 2 if largest < 2**16 else 4
    return b"".join(
        (
            _BATCH.pack(
                batch.first_offset,
                len(batch.effects),
                len(batch.terms),
                batch.terms.shape[1],
                batch.codes.shape[1],
                term_bytes,
                len(log_id),
            ),
            log_id,
            batch.effects.astype("<u1").tobytes(),
            batch.checksums.astype("<u4").tobytes(),
            batch.versions.astype("<u8").tobytes(),
            np.array([len(image_id) for image_id in ids], dtype="<u2").tobytes(),
            *ids,
            batch.terms.astype(f"<u{term_bytes}").tobytes(),
            batch.codes.tobytes(),
        )
    )


def _decode_hidden(payload: memoryview) -> Hidden:
    *places, hidden_from = struct.unpack(f"<{len(payload) // 8}q", payload)
    if not places:
        raise ValueError("no place is hidden")
    return Hidden(tuple(places), hidden_from)


def _decode_batch(payload: memoryview) -> AppliedBatch:
    first_offset, records, inserts, groups, code_bytes, term_bytes, log_id_bytes = _BATCH.unpack_from(payload)
    reader = _Reader(payload, _BATCH.size)
    log_id = reader.text(log_id_bytes)
    effects = reader.array(np.uint8, records)
    checksums = reader.array(np.uint32, records)
    versions = reader.array(np.uint64, records)
    lengths: list[int] = reader.array(np.uint16, records).tolist()
    image_ids = tuple(ImageId(reader.text(length)) for length in lengths)
    terms = reader.array(_TERM_TYPES[term_bytes], inserts * groups).reshape(inserts, groups).astype(np.uint32)
    codes = reader.array(np.uint8, inserts * code_bytes).reshape(inserts, code_bytes)
    reader.finish()
    if records == 0 or int(effects.max()) > max(Effect) or int((effects == Effect.INSERTED).sum()) != inserts:
        raise ValueError(f"{inserts} inserts among {records} records do not fit their effects")
    return AppliedBatch(log_id, first_offset, effects, checksums, versions, image_ids, terms, codes)


class _Reader:
    """Reads one column after the other from a payload."""

    def __init__(self, payload: memoryview, start: int) -> None:
        self._payload = payload
        self._at = start

    def _take(self, size: int) -> memoryview:
        part = self._payload[self._at : self._at + size]
        if len(part) != size:
            raise ValueError(f"{size} bytes expected, {len(part)} left")
        self._at += size
        return part

    def text(self, size: int) -> str:
        return str(self._take(size), "utf-8")

    def array(self, kind: type[_Number], count: int) -> NDArray[_Number]:
        little_endian = np.dtype(kind).newbyteorder("<")
        return np.frombuffer(self._take(little_endian.itemsize * count), dtype=little_endian).astype(kind)

    def finish(self) -> None:
        if self._at != len(self._payload):
            raise ValueError(f"{len(self._payload) - self._at} bytes too many")
