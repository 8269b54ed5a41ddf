"""First loads: a service begins with the images of a manifest. What storage and search are asked for, and answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["LoadReport", "LoadRequest", "LoadState"]


class LoadState(StrEnum):
    """How far a first load is."""

    LOADING = "loading"
    WAITING = "waiting"
    """For what the detail says, such as space on the disk; it goes on by itself."""
    FAILED = "failed"
    """The detail says why; nothing of it is left. It may be asked for again."""
    READY = "ready"
    """Whole and checked, and nobody is served from it yet."""
    LIVE = "live"
    ABORTED = "aborted"
    """Somebody has ended it; nothing of it is left. It may be asked for again."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What is loaded."""

    folder: str
    """A path or a URI."""
    manifest: str
    """The name of the manifest, in that folder."""
    manifest_id: str
    """Its content id."""
    log_id: str
    """Kafka's topic id of `joined`, whose offset 0 comes right after the last row."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """How far a first load is. Times are milliseconds since the epoch; 0: not yet."""

    request: LoadRequest
    """Of a load that is live, without the log."""
    state: LoadState
    detail: str = ""
    """What it does, what it waits for, or what is wrong."""
    rows_done: int = 0
    rows_total: int = 0
    """0: the manifest was not read yet."""
    rows_per_s: float = 0.0
    """Of late, while it loads."""
    images: int = 0
    clusters: int = 0
    started_ms: int = 0
    ended_ms: int = 0
