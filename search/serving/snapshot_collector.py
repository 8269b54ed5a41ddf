"""The gauges of the index's snapshots: how old they are, and how much space they alone keep."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.errors import NeardupError
from search.index.snapshot import snapshots

__all__ = ["SnapshotCollector", "kept_bytes"]

log = logging.getLogger(__name__)


class SnapshotCollector(Collector):
    """Shows the snapshots of an index."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Takes the folder of the snapshots, which may be missing, and a clock in seconds of Unix time."""
        self._folder = folder
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Reads the descriptions and the sizes of all snapshots. Nothing is shown if one is damaged."""
        try:
            found = snapshots(self._folder)
            kept = sum(kept_bytes(info.folder) for info in found)
        except (NeardupError, OSError) as error:
            # Also when a snapshot is removed in this moment: the next scrape shows the rest.
            log.debug("the snapshots cannot be read: %s", error)
            return
        age_s = max(0.0, self._clock() - found[0].created_at_ms / 1000) if found else 0.0
        gauges = {
            "snapshots": ("Snapshots of the index", len(found)),
            "snapshot_age_seconds": ("Age of the oldest snapshot; 0 without any", age_s),
            "snapshot_kept_bytes": ("Bytes that only snapshots keep on disk: the index has merged them away", kept),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"neardup_search_{name}", text, value=float(value))


def kept_bytes(folder: Path) -> int:
    """Bytes of a snapshot's files that no other folder links. Removing the snapshot frees them."""
    stats = [path.stat() for path in folder.iterdir() if path.is_file()]
    return sum(each.st_blocks * 512 for each in stats if each.st_nlink == 1)
