"""The bytes of the join's state of one image id.

Big-endian:

    u8 format version, u16 number of paired versions, u16 number of waiting halves
    per paired version: u64 version, i64 until_ms
    per waiting half:   u8 side (0 search, 1 score), u64 version, i64 deadline_ms, i64 timestamp_ms, i32 partition,
                        i64 offset, u16 length of the topic, u32 length of the payload, topic, payload
"""

from __future__ import annotations

import struct

from core.dead_letters import Provenance
from core.errors import BadInputError
from operators.pairing import ArrivedHalf, PairingState, Side, Waiting

__all__ = ["FORMAT", "decode_state", "encode_state"]

FORMAT = 1
"""The version of this layout; raise it with every change."""

_HEADER = struct.Struct(">BHH")
_PAIRED = struct.Struct(">Qq")
_WAITING = struct.Struct(">BQqqiqHI")
_SIDES = (Side.SEARCH, Side.SCORE)


def encode_state(state: PairingState) -> bytes:
    """The bytes of a state."""
    parts = [_HEADER.pack(FORMAT, len(state.paired), len(state.waiting))]
    parts.extend(_PAIRED.pack(version, until_ms) for version, until_ms in state.paired)
    for waiting in state.waiting:
        half, source = waiting.half, waiting.half.source
        topic = source.topic.encode("utf-8")
        fields = (half.version, waiting.deadline_ms, source.timestamp_ms, source.partition, source.offset)
        parts.append(_WAITING.pack(_SIDES.index(half.side), *fields, len(topic), len(half.payload)))
        parts.append(topic)
        parts.append(half.payload)
    return b"".join(parts)


def decode_state(data: bytes) -> PairingState:
    """The state of its bytes.

    Raises:
        BadInputError: The bytes are damaged, or of another format version.
    """
    try:
        return _decode(data)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise BadInputError(f"the join's state is damaged ({len(data)} bytes): {error}") from error


def _decode(data: bytes) -> PairingState:
    version, paired_count, waiting_count = _HEADER.unpack_from(data)
    if version != FORMAT:
        raise BadInputError(f"the join's state has format {version}, this version reads format {FORMAT}")
    position = _HEADER.size
    paired = []
    for _ in range(paired_count):
        paired.append(_PAIRED.unpack_from(data, position))
        position += _PAIRED.size
    waiting = []
    for _ in range(waiting_count):
        one, position = _decode_waiting(data, position)
        waiting.append(one)
    if position != len(data):
        raise BadInputError(f"the join's state is damaged: {len(data)} bytes, {position} expected")
    return PairingState(tuple(waiting), tuple(paired))


def _decode_waiting(data: bytes, position: int) -> tuple[Waiting, int]:
    fields = _WAITING.unpack_from(data, position)
    side, version, deadline_ms, timestamp_ms, partition, offset, topic_bytes, payload_bytes = fields
    start = position + _WAITING.size
    middle, end = start + topic_bytes, start + topic_bytes + payload_bytes
    if end > len(data):
        raise BadInputError(f"the join's state is damaged: {len(data)} bytes, at least {end} expected")
    source = Provenance(data[start:middle].decode("utf-8"), partition, offset, timestamp_ms)
    return Waiting(ArrivedHalf(_SIDES[side], version, source, data[middle:end]), deadline_ms), end
