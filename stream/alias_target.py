"""Whether a signal is ready for readers, before an alias sends them there."""

from __future__ import annotations

from core.errors import NeardupError
from stream.job_control import JobControl
from stream.settings import Settings

__all__ = ["MOST_BEHIND", "doubts"]

MOST_BEHIND = 1000
"""A job with more records before it lags."""


def doubts(settings: Settings, signal_name: str) -> list[str]:
    """Why readers should not be sent to a signal now; nothing if its job runs and does not lag."""
    control = JobControl(settings, signal_name)
    try:
        job = control.state()
        if job is None or job.state != "RUNNING":
            return [f"its job is {'not known to Flink' if job is None else job.state.lower()}"]
        behind = sum(control.lag().values())
    except NeardupError as error:
        return [str(error).partition("\n")[0]]
    finally:
        control.flink.close()
    return [f"its job is {behind:,} records behind"] if behind > MOST_BEHIND else []
