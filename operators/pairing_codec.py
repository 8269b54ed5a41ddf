"""The bytes of a half between decode and join, and of the join's state of one image id.

All numbers are big-endian. A half:

    u8 side (0 search, 1 score), u64 version, i64 timestamp_ms, i32 partition, i64 offset,
    u16 length of the topic, u8 length of the traceparent, topic, traceparent, payload up to the end

The state:

    u8 format, u16 number of paired versions, u16 number of waiting halves
    per paired version: u64 version, i64 until_ms
    per waiting half:   i64 deadline_ms, u32 length of the half, half
    u32 CRC-32C of all before (`operators.sealed_state`)
"""

from __future__ import annotations

import struct

from core.dead_letters import Provenance
from core.errors import BadInputError
from operators.pairing import ArrivedHalf, PairingState, Side, Waiting
from operators.sealed_state import StateDamagedError, seal, unseal

__all__ = ["FORMAT", "decode_half", "decode_state", "encode_half", "encode_state"]

FORMAT = 3
"""The version of both layouts. Raise it with every change, and `stream.job.STATE_FORMAT` with it."""

_STATE = "the join's state of an image"
_HALF = struct.Struct(">BQqiqHB")
_HEADER = struct.Struct(">BHH")
_PAIRED = struct.Struct(">Qq")
_WAITING = struct.Struct(">qI")
_SIDES = (Side.SEARCH, Side.SCORE)


def encode_half(half: ArrivedHalf) -> bytes:
    """The bytes of a half."""
    source = half.source
    topic = source.topic.encode("utf-8")
    fields = (half.version, source.timestamp_ms, source.partition, source.offset, len(topic), len(half.traceparent))
    return _HALF.pack(_SIDES.index(half.side), *fields) + topic + half.traceparent + half.payload


def decode_half(data: bytes) -> ArrivedHalf:
    """The half of its bytes.

    Raises:
        BadInputError: The bytes are damaged.
    """
    try:
        side, version, timestamp_ms, partition, offset, topic_bytes, trace_bytes = _HALF.unpack_from(data)
        middle = _HALF.size + topic_bytes
        end = middle + trace_bytes
        if end > len(data):
            raise BadInputError(f"a half is damaged: {len(data)} bytes, at least {end} expected")
        source = Provenance(data[_HALF.size : middle].decode("utf-8"), partition, offset, timestamp_ms)
        return ArrivedHalf(_SIDES[side], version, source, data[end:], data[middle:end])
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise BadInputError(f"a half is damaged ({len(data)} bytes): {error}") from error


def encode_state(state: PairingState) -> bytes:
    """The bytes of a state."""
    parts = [_HEADER.pack(FORMAT, len(state.paired), len(state.waiting))]
    parts.extend(_PAIRED.pack(version, until_ms) for version, until_ms in state.paired)
    for waiting in state.waiting:
        half = encode_half(waiting.half)
        parts += (_WAITING.pack(waiting.deadline_ms, len(half)), half)
    return seal(b"".join(parts))


def decode_state(data: bytes) -> PairingState:
    """The state of its bytes.

    Raises:
        StateDamagedError: They are damaged, or have another format. State of another format has other uids, so Flink
            gives it to no operator of this version.
    """
    try:
        return _decode(unseal(data, _STATE))
    except (struct.error, BadInputError) as error:
        raise StateDamagedError(_STATE, str(error)) from error


def _decode(data: bytes) -> PairingState:
    version, paired_count, waiting_count = _HEADER.unpack_from(data)
    if version != FORMAT:
        raise BadInputError(f"it has format {version}, this version reads format {FORMAT}")
    position = _HEADER.size
    paired = []
    for _ in range(paired_count):
        paired.append(_PAIRED.unpack_from(data, position))
        position += _PAIRED.size
    waiting = []
    for _ in range(waiting_count):
        deadline_ms, length = _WAITING.unpack_from(data, position)
        start = position + _WAITING.size
        position = start + length
        waiting.append(Waiting(decode_half(data[start:position]), deadline_ms))
    if position != len(data):
        raise BadInputError(f"it has {len(data)} bytes, {position} expected")
    return PairingState(tuple(waiting), tuple(paired))
