"""How things are put into words, the same in every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.times import time_text

if TYPE_CHECKING:
    from stream.flink_rest import JobState

__all__ = ["duration_text", "job_text", "time_text"]


def duration_text(seconds: float) -> str:
    """A duration in its largest two units."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {left} s"
    return f"{left} s"


def job_text(state: JobState | None) -> str:
    """A job's state in one line."""
    if state is None:
        return "Flink knows no job"
    return f"{state.name}: {state.state}, job {state.job_id}, since {time_text(state.started_ms)}"
