"""The names under which a signal, its job and its Kafka clients appear elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream.settings import Signal

__all__ = ["client_id", "consumer_group", "job_name", "signal_text"]


def client_id(signal: str, role: str) -> str:
    """The name that a Kafka client of a signal gives itself; `role` is the part that it belongs to."""
    return f"neardup-{signal}-{role}"


def job_name(signal: str) -> str:
    """The name of a signal's job in Flink."""
    return f"neardup-{signal}"


def consumer_group(signal: str) -> str:
    """The consumer group of a signal's embedding topics."""
    return f"neardup-{signal}"


def signal_text(name: str, signal: Signal) -> str:
    """A signal with its embeddings, as files of images name it (`manifests.metadata`)."""
    search, score = signal.search_embedding, signal.score_embedding
    return (
        f"{name}; search {search.name} {search.model_version} of {search.dimension};"
        f" score {score.name} {score.model_version} of {score.dimension}"
    )
