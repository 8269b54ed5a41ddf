"""Frames: how the index log marks where each write begins and ends, and how frames are found again after damage.

All numbers are little-endian. A frame of format 2:

    magic "NDLG" | format version u16 | kind u16 | payload length u32 | mask u32 | CRC-32C of the payload u32
    | CRC-32C of the 20 bytes before it u32 | payload

The header has a checksum of its own, so its length can be trusted although the payload is damaged. A payload holds
bytes that strangers choose, such as image ids, and these may look like a frame. So the magic occurs nowhere in a frame
but at its start. A payload that would contain it is stored masked: its bytes are combined with the repeated mask by
exclusive or.

A frame of format 1 is still read. It has neither mask nor a checksum of the header, and its one checksum covers the 12
bytes before it and the payload:

    magic "NDLG" | format version u16 | kind u16 | payload length u32 | CRC-32C u32 | payload
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import numpy as np
from crc32c import crc32c

from core.errors import MismatchError

__all__ = [
    "FRAME_FORMAT",
    "HEADER_BYTES",
    "MAGIC",
    "FrameHeader",
    "encode_parts",
    "find_intact_frame",
    "is_intact",
    "kind_and_payload",
    "read_header",
]

MAGIC = b"NDLG"
"""The first bytes of every frame; they occur nowhere else in a frame of format 2."""

FRAME_FORMAT = 2
"""The format that is written."""

_FIRST_FORMAT = 1

_FRONT = struct.Struct("<4sHHI")
_REST = struct.Struct("<II")
_CHECKSUM = struct.Struct("<I")

HEADER_BYTES = _FRONT.size + _REST.size + _CHECKSUM.size
"""Bytes before the payload in format 2."""

_FIRST_HEADER_BYTES = _FRONT.size + _CHECKSUM.size


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a header says of its frame."""

    version: int
    kind: int
    header_bytes: int
    payload_bytes: int
    trusted: bool
    """Its own checksum is right. A header of format 1 has none."""

    @property
    def frame_bytes(self) -> int:
        """The length of the whole frame."""
        return self.header_bytes + self.payload_bytes


def encode_parts(kind: int, payload: bytes) -> bytes:
    """The bytes of one frame."""
    mask = 0
    while True:
        stored = _masked(payload, mask)
        front = _FRONT.pack(MAGIC, FRAME_FORMAT, kind, len(stored)) + _REST.pack(mask, crc32c(stored))
        frame = b"".join((front, _CHECKSUM.pack(crc32c(front)), stored))
        if frame.find(MAGIC, 1) < 0:
            return frame
        # Random, since whoever chooses the payload must not know it.
        mask = int.from_bytes(os.urandom(4), "little")


def read_header(data: bytes | memoryview) -> FrameHeader | None:
    """The header that some bytes begin with; None when they do not begin with one."""
    if len(data) < _FIRST_HEADER_BYTES:
        return None
    magic, version, kind, payload_bytes = _FRONT.unpack_from(data)
    if magic != MAGIC:
        return None
    if version == _FIRST_FORMAT:
        return FrameHeader(version, kind, _FIRST_HEADER_BYTES, payload_bytes, trusted=False)
    if len(data) < HEADER_BYTES:
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, HEADER_BYTES - _CHECKSUM.size)
    if crc32c(data[: HEADER_BYTES - _CHECKSUM.size]) != checksum:
        return None
    return FrameHeader(version, kind, HEADER_BYTES, payload_bytes, trusted=True)


def is_intact(frame: bytes | memoryview) -> bool:
    """Whether the bytes are one whole frame with correct checksums."""
    header = read_header(frame)
    if header is None or len(frame) != header.frame_bytes:
        return False
    payload = frame[header.header_bytes :]
    if header.version == _FIRST_FORMAT:
        (checksum,) = _CHECKSUM.unpack_from(frame, _FRONT.size)
        return bool(crc32c(payload, crc32c(frame[: _FRONT.size])) == checksum)
    _, checksum = _REST.unpack_from(frame, _FRONT.size)
    return bool(crc32c(payload) == checksum)


def find_intact_frame(data: bytes, start: int) -> int | None:
    """Where the first intact frame at or after a byte starts; None when there is none."""
    view = memoryview(data)
    at = data.find(MAGIC, start)
    while at >= 0:
        header = read_header(view[at : at + HEADER_BYTES])
        if header is not None and is_intact(view[at : at + header.frame_bytes]):
            return at
        at = data.find(MAGIC, at + 1)
    return None


def kind_and_payload(frame: bytes) -> tuple[int, memoryview]:
    """The kind and the payload, as it was given, of an intact frame.

    Raises:
        MismatchError: Another version of the format wrote it.
    """
    header = read_header(frame)
    version = _FRONT.unpack_from(frame)[1] if header is None else header.version
    if header is None or version not in (_FIRST_FORMAT, FRAME_FORMAT):
        raise MismatchError(
            f"the index log has format {version}, this program reads formats {_FIRST_FORMAT} and {FRAME_FORMAT}"
        )
    stored = memoryview(frame)[header.header_bytes :]
    if version == _FIRST_FORMAT:
        return header.kind, stored
    mask, _ = _REST.unpack_from(frame, _FRONT.size)
    return header.kind, memoryview(_masked(bytes(stored), mask)) if mask else stored


def _masked(payload: bytes, mask: int) -> bytes:
    if mask == 0:
        return payload
    repeated = np.resize(np.frombuffer(mask.to_bytes(4, "little"), np.uint8), len(payload))
    return (np.frombuffer(payload, np.uint8) ^ repeated).tobytes()
