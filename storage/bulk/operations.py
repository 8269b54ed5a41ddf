"""A bulk move as it goes on: how far it is, and whether it rests. Pure.

Everybody who reads the store sees the whole move from its first step. What goes on afterwards is the rewriting of its
records, some at a time.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from storage.errors import CorruptedError

__all__ = ["Operation", "OperationState", "decode_operation", "encode_operation"]


class OperationState(StrEnum):
    """What a bulk move does at present."""

    PLANNING = "planning"
    """Nobody sees it yet, and it can be cancelled."""
    MOVING = "moving"
    PAUSED = "paused"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Operation:
    """One bulk move."""

    number: int
    """From 1, in the order in which they begin; while it is planned, the one that it will have."""
    state: OperationState
    total: int
    """How many images move, as far as it is planned."""
    moved: int
    """How many of them were rewritten."""
    first: int
    """The number of its first history entry."""
    started_ms: int
    """Milliseconds since the epoch."""
    ended_ms: int | None = None
    override: int | None = None
    """The number of the override that moves the images; while it is planned, the one that it will have."""
    position: int | None = None
    """Of the record of the order that forgets their head. Either this or `override` is there."""


def encode_operation(operation: Operation) -> bytes:
    """The operation as JSON."""
    return json.dumps(asdict(operation), separators=(",", ":")).encode("ascii")


def decode_operation(value: bytes) -> Operation:
    """The operation from its JSON.

    Raises:
        CorruptedError: The bytes are damaged.
    """
    try:
        fields = json.loads(value)
        return Operation(
            number=int(fields["number"]),
            state=OperationState(fields["state"]),
            total=int(fields["total"]),
            moved=int(fields["moved"]),
            first=int(fields["first"]),
            started_ms=int(fields["started_ms"]),
            ended_ms=_number(fields["ended_ms"]),
            override=_number(fields["override"]),
            position=_number(fields["position"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptedError(f"a bulk move is damaged: {error}") from None


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
