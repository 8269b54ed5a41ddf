"""The space of the disks below a process's folders, read at each scrape."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["DiskCollector"]


class DiskCollector(Collector):
    """Shows free space and size of the volume that each folder lies on.

    Every process shows its own folders. In containers each of them may be a volume that no other process sees.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """Takes the folders by the value of their label. A folder that does not exist yet is left out."""
        self._folders = dict(folders)

    def collect(self) -> Iterator[Metric]:
        """Asks the file system."""
        free = GaugeMetricFamily(
            "neardup_disk_free_bytes", "Bytes that the process can still write below a folder", labels=["folder"]
        )
        size = GaugeMetricFamily("neardup_disk_size_bytes", "Size of the folder's volume", labels=["folder"])
        for label, folder in self._folders.items():
            try:
                volume = os.statvfs(folder)
            except OSError:
                continue
            free.add_metric([label], volume.f_bavail * volume.f_frsize)
            size.add_metric([label], volume.f_blocks * volume.f_frsize)
        yield free
        yield size
