"""Reads the bytes of a protobuf message as far as they go: cut off, damaged, or of another message than expected."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

__all__ = ["PartialMessage", "read_as_far_as_it_goes"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BITS = 70
_DEPTH = 8
"""So many messages within each other are read; a deeper one stays bytes."""

_SIGNED = {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64}
_WIRE_TYPES = {
    FieldDescriptor.TYPE_DOUBLE: _FIXED64,
    FieldDescriptor.TYPE_FIXED64: _FIXED64,
    FieldDescriptor.TYPE_FLOAT: _FIXED32,
    FieldDescriptor.TYPE_FIXED32: _FIXED32,
    FieldDescriptor.TYPE_STRING: _BYTES,
    FieldDescriptor.TYPE_BYTES: _BYTES,
    FieldDescriptor.TYPE_MESSAGE: _BYTES,
}


@dataclass(slots=True)
class PartialMessage:
    """What could be read. A field that came several times has its last value, as protobuf has it."""

    fields: dict[str, Any] = field(default_factory=dict)
    """By name; `field 9` where the message has no field of this number. Values are numbers, text, bytes or messages."""
    read_bytes: int = 0
    problem: str = ""
    """Why reading ended there; empty: it was the end."""


class _BrokenError(Exception):
    pass


def read_as_far_as_it_goes(data: bytes, kind: Descriptor, depth: int = 0) -> PartialMessage:
    """The fields of a message, up to the first byte that cannot be right.

    Args:
        data: The bytes.
        kind: What they should be.
        depth: How many messages it lies within.
    """
    found, at = PartialMessage(), 0
    while at < len(data):
        try:
            at = _field(data, at, kind, depth, found)
        except _BrokenError as broken:
            found.problem = f"byte {found.read_bytes}: {broken}"
            break
        found.read_bytes = at
    return found


def _field(data: bytes, at: int, kind: Descriptor, depth: int, found: PartialMessage) -> int:
    tag, at = _varint(data, at)
    number, wire_type = tag >> 3, tag & 7
    if number == 0:
        raise _BrokenError("no field has the number 0")
    known = kind.fields_by_number.get(number)
    name = f"field {number}" if known is None else known.name
    raw: Any
    if wire_type == _VARINT:
        raw, at = _varint(data, at)
    elif wire_type in (_FIXED64, _FIXED32):
        size = 8 if wire_type == _FIXED64 else 4
        raw, at = _take(data, at, size, name), at + size
    elif wire_type == _BYTES:
        size, at = _varint(data, at)
        raw, at = _take(data, at, size, name), at + size
    else:
        raise _BrokenError(f"{name} has the wire type {wire_type}, which is none of this format")
    expected = None if known is None else _WIRE_TYPES.get(known.type, _VARINT)
    if known is not None and expected != wire_type:
        raise _BrokenError(f"{name} has the wire type {wire_type}, expected {expected}")
    found.fields[name] = raw if known is None else _value(raw, known, depth)
    return at


def _value(raw: Any, known: FieldDescriptor, depth: int) -> Any:
    match known.type:
        case FieldDescriptor.TYPE_STRING:
            return raw.decode("utf-8", errors="backslashreplace")
        case FieldDescriptor.TYPE_MESSAGE:
            inner = known.message_type
            return raw if inner is None or depth >= _DEPTH else read_as_far_as_it_goes(raw, inner, depth + 1)
        case FieldDescriptor.TYPE_BOOL:
            return bool(raw)
        case FieldDescriptor.TYPE_ENUM:
            named = known.enum_type.values_by_number.get(raw) if known.enum_type else None
            return raw if named is None else named.name
        case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
            return struct.unpack("<f" if len(raw) == 4 else "<d", raw)[0]
        case FieldDescriptor.TYPE_FIXED32 | FieldDescriptor.TYPE_FIXED64:
            return int.from_bytes(raw, "little")
    return raw - (1 << 64) if known.type in _SIGNED and raw >> 63 else raw


def _take(data: bytes, at: int, size: int, name: str) -> bytes:
    if at + size > len(data):
        raise _BrokenError(f"{name} has {size} bytes, of which {max(0, len(data) - at)} are there")
    return data[at : at + size]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _VARINT_BITS, 7):
        if at >= len(data):
            raise _BrokenError("the bytes end within a number")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise _BrokenError("a number is longer than 10 bytes")
