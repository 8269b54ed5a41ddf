"""Conversion between rollbacks and the messages of `storage.proto`."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from core.errors import BadInputError
from core.overrides import ChangeFilter, NewImages, Point, Rollback, RollbackRequest
from core.types import Cause, ImageId
from storage.serving import storage_pb2 as pb

__all__ = ["read_rollback_request", "rollback_message", "rollback_of", "rollback_request_message"]

_Word = TypeVar("_Word", bound=StrEnum)


def rollback_request_message(asked: RollbackRequest) -> pb.RollbackRequest:
    """What somebody wants to go back to as a message."""
    return pb.RollbackRequest(
        to_ms=asked.to_ms,
        to_change=asked.to_change,
        since_ms=asked.since_ms,
        where=_filter_message(asked.where),
        new=asked.new,
    )


def read_rollback_request(message: pb.RollbackRequest) -> RollbackRequest:
    """What somebody wants to go back to from its message.

    Raises:
        BadInputError: There is no such cause, or no such way with new images.
    """
    return RollbackRequest(
        to_ms=message.to_ms if message.HasField("to_ms") else None,
        to_change=message.to_change if message.HasField("to_change") else None,
        since_ms=message.since_ms if message.HasField("since_ms") else None,
        where=_filter_of(message.where),
        new=_word(NewImages, "new", message.new or NewImages.DECIDE),
    )


def rollback_message(rollback: Rollback) -> pb.Rollback:
    """To which moment images went back as a message."""
    return pb.Rollback(
        to=_point_message(rollback.to),
        since=_point_message(rollback.since),
        where=_filter_message(rollback.where),
        new=rollback.new,
        of=rollback.of,
        until=None if rollback.until is None else _point_message(rollback.until),
    )


def rollback_of(message: pb.Rollback) -> Rollback:
    """To which moment images went back from its message.

    Raises:
        BadInputError: There is no such cause, or no such way with new images.
    """
    return Rollback(
        to=_point_of(message.to),
        since=_point_of(message.since),
        where=_filter_of(message.where),
        new=_word(NewImages, "new", message.new),
        of=message.of,
        until=_point_of(message.until) if message.HasField("until") else None,
    )


def _filter_message(where: ChangeFilter) -> pb.ChangeFilter:
    return pb.ChangeFilter(model=where.model, head=where.head, cause=where.cause)


def _filter_of(message: pb.ChangeFilter) -> ChangeFilter:
    return ChangeFilter(
        model=message.model if message.HasField("model") else None,
        head=ImageId(message.head) if message.HasField("head") else None,
        cause=_word(Cause, "cause", message.cause) if message.HasField("cause") else None,
    )


def _point_message(point: Point) -> pb.Point:
    return pb.Point(position=point.position, override=point.override)


def _point_of(message: pb.Point) -> Point:
    return Point(message.position, message.override)


def _word(words: type[_Word], name: str, text: str) -> _Word:
    try:
        return words(text)
    except ValueError:
        raise BadInputError(f"there is no {name} {text!r}: say {', '.join(words)}") from None
