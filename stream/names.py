"""The names under which a signal's job and its Kafka clients appear elsewhere."""

from __future__ import annotations

__all__ = ["client_id", "consumer_group", "job_name"]


def client_id(signal: str, role: str) -> str:
    """The name that a Kafka client of a signal gives itself; `role` is the part that it belongs to."""
    return f"neardup-{signal}-{role}"


def job_name(signal: str) -> str:
    """The name of a signal's job in Flink."""
    return f"neardup-{signal}"


def consumer_group(signal: str) -> str:
    """The consumer group of a signal's embedding topics."""
    return f"neardup-{signal}"
