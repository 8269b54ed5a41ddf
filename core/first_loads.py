"""Loads: a service begins with the images of a manifest (a first load), and takes those of later ones (deltas).

What storage and search are asked for, and what they answer. A delta is storage's alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["LoadReport", "LoadRequest", "LoadState"]


class LoadState(StrEnum):
    """How far a load is."""

    LOADING = "loading"
    WAITING = "waiting"
    """For what the detail says, such as space on the disk; it goes on by itself."""
    FAILED = "failed"
    """The detail says why; nothing of a first load is left. It may be asked for again."""
    READY = "ready"
    """Whole and checked, and nobody is served from it yet."""
    LIVE = "live"
    """Somebody is served from it; of a delta, all rows are applied."""
    ABORTED = "aborted"
    """Somebody has ended it; nothing of a first load is left. It may be asked for again."""


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
    """Kafka's topic id of `joined`, whose offset 0 comes right after the last row; empty: of a delta."""

    @property
    def is_delta(self) -> bool:
        """Whether its rows go into the order, after a first load."""
        return not self.log_id


@dataclass(frozen=True, slots=True)
class LoadReport:
    """How far a load is. Times are milliseconds since the epoch; 0: not yet."""

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
