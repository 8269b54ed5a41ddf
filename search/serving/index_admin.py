"""The search server's administration: statistics, snapshots, release of old entries, the first load."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from core.errors import BadInputError
from core.few import one_of_few
from search.index.interface import TermIndex
from search.loading.loads import Loads
from search.serving import search_pb2 as pb
from search.serving.messages import stats_message
from search.tuning.drift import ChosenDensity, LiveDensity, density_drift

__all__ = ["IndexAdmin"]

_SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")

_SNAPSHOT_S = 5.0
"""A second snapshot at the same time is told to wait so long; the files of the first are linked in seconds."""


class IndexAdmin:
    """Administers one open index."""

    def __init__(
        self, index: TermIndex, folder: Path, snapshots: Path, chosen: ChosenDensity | None, loads: Loads
    ) -> None:
        """Takes its parts.

        Args:
            index: The index that is served.
            folder: Its folder.
            snapshots: The folder for snapshots.
            chosen: The density that the terms were chosen for; None: not known.
            loads: The first load.
        """
        self.loads = loads
        self._index = index
        self._folder = folder
        self._snapshots = snapshots
        self._chosen = chosen
        self._copying = threading.Lock()

    def stats(self) -> pb.StatsResponse:
        """What the index holds, and its density beside the one that the terms were chosen for."""
        stats = self._index.stats()
        drift = None
        if self._chosen is not None:
            drift = density_drift(self._chosen, LiveDensity(stats.images, stats.expected_postings))
        return stats_message(stats, str(self._folder), drift)

    def snapshot(self, name: str) -> pb.SnapshotResponse:
        """Copies the index into a folder of that name.

        Raises:
            BadInputError: The name is not valid, or there is such a snapshot.
            BusyError: Another snapshot is being made.
            UnavailableError: It could not be written; nothing is left of it.
        """
        if not _SNAPSHOT_NAME.fullmatch(name):
            raise BadInputError(
                f"a snapshot's name has 1 to 64 letters, digits, '.', '_' or '-' and no dot in front, not {name[:80]!r}"
            )
        with one_of_few(self._copying, "another snapshot is being made", _SNAPSHOT_S):
            folder = self._snapshots / name
            self._snapshots.mkdir(parents=True, exist_ok=True)
            position = self._index.snapshot(folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return pb.SnapshotResponse(folder=str(folder), log_id=position.log_id, offset=position.offset, bytes=size)

    def release(self, log_id: str, offset: int) -> None:
        """Storage has committed the order up to an offset, so no search as of that or an earlier place will come.

        Raises:
            BadInputError: The offset belongs to another log than the index follows.
        """
        position = self._index.position
        if log_id != position.log_id:
            raise BadInputError(f"the index follows the log {position.log_id!r}, not {log_id[:64]!r}")
        self._index.release(min(offset, position.offset))
