"""Times as text, the same everywhere."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["time_text"]


def time_text(time_ms: int) -> str:
    """Milliseconds since the epoch as ISO 8601, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
