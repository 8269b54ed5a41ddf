"""A trace in one line, and how a score is shown."""

from __future__ import annotations

from core.traces import Trace
from stream.times import time_text
from stream.traces.choice import spent_ms

__all__ = ["score_text", "trace_line"]


def score_text(score: float | None) -> str:
    """A score as it is shown; five digits tell scores near 1 apart."""
    return "none" if score is None else f"{score:.5f}"


def trace_line(trace: Trace, taken_ms: int) -> str:
    """A trace in one line: when, what, its head and why, and the time of each step.

    Args:
        trace: The trace.
        taken_ms: When Kafka took it.
    """
    words = [time_text(trace.decided_at_ms or taken_ms), trace.image_id or "-", f"v{trace.version}"]
    if trace.choice is not None:
        words += ["->", trace.choice.head]
    words += [each for each in (None if trace.kind == "image" else trace.kind, trace.outcome, trace.cause) if each]
    if trace.choice is not None and trace.choice.matched is not None:
        words += [f"match {trace.choice.matched}", score_text(trace.choice.score)]
    words += [f"({trace.reason})"]
    times = {name: spent_ms(trace, name) for name in ("search", "score", "assign", "total")}
    words += [f"{name} {spent} ms" for name, spent in times.items() if spent is not None]
    return "  ".join(words)
