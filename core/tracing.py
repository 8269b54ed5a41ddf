"""The W3C trace context that a producer may give with a notification: the header `traceparent`."""

from __future__ import annotations

import re

__all__ = ["traceparent"]

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent(header: bytes | None) -> bytes:
    """The header's value if it has the form of version 00, which later versions keep; else no bytes."""
    return bytes(header) if header and _TRACEPARENT.fullmatch(header) else b""
