"""RocksDB's format of logs, which its write-ahead logs and its manifest have: where records end, and what is damaged.

A log is a row of blocks of 32 KiB. A record lies in one or more fragments; no fragment crosses a block. All numbers are
little-endian:

    masked CRC-32C of type and payload u32 | length of the payload u16 | type u8 | payload
    types: 1 whole record, 2 first fragment, 3 one in between, 4 last fragment; higher ones are notes of RocksDB

The last 6 bytes of a block, or fewer, stay empty. A record of a write-ahead log begins with its first sequence number
(u64) and how many numbers it takes (u32). The numbers of all records of a database have no gap.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from crc32c import crc32c

__all__ = [
    "BLOCK_BYTES",
    "SECTOR_BYTES",
    "LogContent",
    "LogRecord",
    "begins_later",
    "lost_sectors",
    "read_log",
    "was_never_written",
]

BLOCK_BYTES = 32_768

SECTOR_BYTES = 512
"""The least part of a file that a disk writes whole or not at all."""

_HEADER = struct.Struct("<IHB")
_BATCH = struct.Struct("<QI")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_AHEAD = 1 << 24
"""A record whose sequence number is further ahead is none, but bytes of a value that look like one."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A whole record.

    Attributes:
        end: The byte after it.
        sequence: Its first sequence number. It and `count` mean nothing in a manifest.
        count: How many numbers it takes.
    """

    end: int
    sequence: int
    count: int


@dataclass(frozen=True, slots=True)
class LogContent:
    """What a log holds.

    Attributes:
        records: The whole records up to the first damage, in order.
        end: The byte after the last of them.
        damaged_at: Where the first damaged fragment begins; None: the log is whole, or it was cut within a record.
    """

    records: tuple[LogRecord, ...]
    end: int
    damaged_at: int | None


@dataclass(frozen=True, slots=True)
class _Fragment:
    kind: int
    payload: memoryview
    end: int


def read_log(data: bytes) -> LogContent:
    """Reads the records of a log up to the first damage."""
    records: list[LogRecord] = []
    begun: bytes | None = None
    at = end = 0
    view = memoryview(data)
    while True:
        at = _after_padding(at)
        fragment = _fragment(view, at)
        if fragment is None:
            return LogContent(tuple(records), end, at if _is_damaged(view, at) else None)
        if (fragment.kind in (_MIDDLE, _LAST)) != (begun is not None) and fragment.kind <= _LAST:
            return LogContent(tuple(records), end, at)
        at = fragment.end
        if fragment.kind in (_WHOLE, _FIRST):
            begun = b""
        if begun is not None and fragment.kind <= _LAST:
            # The first fragment takes what is left of its block, which may be nothing.
            begun += bytes(fragment.payload[: _BATCH.size - len(begun)])
        if begun is not None and fragment.kind in (_WHOLE, _LAST):
            records.append(LogRecord(at, *_BATCH.unpack(begun.ljust(_BATCH.size, b"\0"))))
            begun, end = None, at


def begins_later(data: bytes, damaged_at: int, expected: int | None, *, synced_together: bool = False) -> int | None:
    """Where another record begins behind a damaged one; None: nowhere.

    Args:
        data: The log.
        damaged_at: The damage. Later fragments of the damaged record do not count.
        expected: The sequence number of the damaged record: a value may hold bytes that look like a record, but not
            with a number that comes soon after. None: it is not known, or there are no numbers.
        synced_together: A sync writes several records, so the damaged one may be followed by others that are damaged
            too, and only an intact one counts. Otherwise whatever follows was written after the damaged one was synced.
    """
    view = memoryview(data)
    if not synced_together:
        ended = _stated_end(view, damaged_at)
        if ended is not None and ended < len(data):
            return ended
    for at in _possible(data, damaged_at):
        fragment = _fragment(view, at)
        if fragment is None:
            continue
        if expected is None:
            return at
        begun = bytes(fragment.payload[: _BATCH.size])
        if fragment.kind == _FIRST and len(begun) < _BATCH.size:
            following = _fragment(view, _after_padding(fragment.end))
            begun += b"" if following is None else bytes(following.payload[: _BATCH.size])
        if len(begun) >= _BATCH.size:
            sequence, _ = _BATCH.unpack_from(begun)
            if expected < sequence < expected + _AHEAD:
                return at
    return None


def lost_sectors(data: bytes, start: int) -> bool:
    """Whether some sector from a byte on was never written: it reads as zeros."""
    edges = [start, *range((start // SECTOR_BYTES + 1) * SECTOR_BYTES, len(data), SECTOR_BYTES), len(data)]
    return any(not any(data[one:other]) for one, other in pairwise(edges) if one < other)


def was_never_written(data: bytes, start: int) -> bool:
    """Whether a sector is zeros from this byte on, which is not its first: its last write was lost."""
    behind = -start % SECTOR_BYTES
    return behind > 0 and not any(data[start : start + behind])


def _after_padding(at: int) -> int:
    left = -at % BLOCK_BYTES
    return at + left if left < _HEADER.size else at


def _fragment(view: memoryview, at: int) -> _Fragment | None:
    """The intact fragment that begins at a byte."""
    if at + _HEADER.size > len(view):
        return None
    checksum, length, kind = _HEADER.unpack_from(view, at)
    end = at + _HEADER.size + length
    if end > len(view) or at // BLOCK_BYTES != (end - 1) // BLOCK_BYTES or kind == 0:
        return None
    found = crc32c(view[at + _HEADER.size - 1 : end])
    if ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF != checksum:
        return None
    return _Fragment(kind, view[at + _HEADER.size : end], end)


def _is_damaged(view: memoryview, at: int) -> bool:
    """Whether what begins at a byte is more than a fragment that the end of the file cut off."""
    if at + _HEADER.size > len(view):
        return False
    _, length, kind = _HEADER.unpack_from(view, at)
    return bool(kind == 0 or at + _HEADER.size + length <= len(view))


def _stated_end(view: memoryview, at: int) -> int | None:
    """Where a damaged record ends according to the headers of its fragments; None: they are lost too."""
    while (at := _after_padding(at)) + _HEADER.size <= len(view):
        _, length, kind = _HEADER.unpack_from(view, at)
        if kind == 0:
            at = (at // BLOCK_BYTES + 1) * BLOCK_BYTES
            continue
        at += _HEADER.size + length
        if kind in (_WHOLE, _LAST):
            return _after_padding(at)
    return None


def _possible(data: bytes, start: int) -> Iterator[int]:
    """Where the first fragment of a record may begin, from a byte on: type and length are possible there."""
    count = len(data) - _HEADER.size - start + 1
    if count <= 0:
        return
    content = np.frombuffer(data, np.uint8)
    at = np.arange(start, start + count)
    kinds = content[start + 6 : start + 6 + count]
    at = at[(kinds == _WHOLE) | (kinds == _FIRST)]
    ends = at + _HEADER.size + content[at + 4] + 256 * content[at + 5].astype(np.int64)
    yield from at[(ends <= len(data)) & (at // BLOCK_BYTES == (ends - 1) // BLOCK_BYTES)].tolist()
