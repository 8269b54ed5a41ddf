"""The names under which a signal's job appears elsewhere."""

from __future__ import annotations

__all__ = ["consumer_group", "job_name"]


def job_name(signal: str) -> str:
    """The name of a signal's job in Flink."""
    return f"neardup-{signal}"


def consumer_group(signal: str) -> str:
    """The consumer group of a signal's embedding topics."""
    return f"neardup-{signal}"
