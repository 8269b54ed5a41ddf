"""Times as the HTTP API takes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from core.errors import BadInputError

__all__ = ["time_ms"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_ms(text: str) -> int:
    """A time in milliseconds since the epoch. Before 1970 there was nothing, so it is 1970 then.

    Raises:
        BadInputError: It has another form.
    """
    try:
        if text.isascii() and text.isdecimal():
            return int(text)
        when = datetime.fromisoformat(text)
        if when.tzinfo is not None:
            return max(0, (when - _EPOCH) // timedelta(milliseconds=1))
    except (ValueError, OverflowError):
        pass
    raise BadInputError("the time is ISO 8601 with a zone, as 2026-11-28T07:00:00Z, or milliseconds since the epoch")
