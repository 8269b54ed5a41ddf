"""Whether a signal is ready for readers, before an alias sends them there."""

from __future__ import annotations

from urllib.parse import urlsplit

from core.access import Right, is_loopback
from core.errors import NeardupError
from core.first_loads import LoadState
from stream.alias_places import signal_places
from stream.bootstrap.loading import servers
from stream.job_control import JobControl
from stream.settings import Settings

__all__ = ["MOST_BEHIND", "doubts"]

MOST_BEHIND = 1000
"""A job with more records before it lags."""

_LOADING = (LoadState.LOADING, LoadState.WAITING, LoadState.READY)


def doubts(settings: Settings, signal_name: str) -> list[str]:
    """Why readers should not be sent to a signal now.

    Nothing if its job runs and does not lag, no first load is under way, and they find its API where they are sent.
    """
    return [*_unreachable(settings, signal_name), *_behind(settings, signal_name), *_loading(settings, signal_name)]


def _unreachable(settings: Settings, signal_name: str) -> list[str]:
    host = urlsplit(signal_places(settings)[signal_name].api).hostname or ""
    if not is_loopback(host) or is_loopback(settings.signals[signal_name].api.bind_host):
        return []
    return [
        f"its API listens for other machines, and readers there would be sent to {host}, which is their own machine: "
        f"set `host` or `public_url` in [signals.{signal_name}.api]"
    ]


def _loading(settings: Settings, signal_name: str) -> list[str]:
    try:
        with servers(settings, signal_name, Right.READ) as both:
            load = both.storage.load_status()
    except NeardupError as error:
        return [str(error).partition("\n")[0]]
    return [f"its first load is {load.state}"] if load is not None and load.state in _LOADING else []


def _behind(settings: Settings, signal_name: str) -> list[str]:
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
