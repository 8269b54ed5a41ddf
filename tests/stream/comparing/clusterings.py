"""Clusterings in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from stream.comparing.interface import ClusteredRows, Clustering

Row = tuple[str, str | None, int]
"""Image, cluster, version."""


class ListedClustering(Clustering):
    """Rows of a list, a few at a time."""

    def __init__(self, name: str, rows: Sequence[Row], at_once: int = 3, moment: str = "") -> None:
        self.name = name
        self._rows, self._at_once, self._moment = rows, at_once, moment

    def rows(self) -> Iterator[ClusteredRows]:
        """See `Clustering.rows`."""
        left, done = iter(self._rows), 0
        while part := list(islice(left, self._at_once)):
            done += len(part)
            ids, clusters, versions = zip(*part, strict=True)
            yield ClusteredRows(ids, np.array(versions, np.int64), clusters, done, len(self._rows))

    def moment(self) -> str:
        """See `Clustering.moment`."""
        return self._moment


def singles(**clusters: str) -> list[Row]:
    """Rows of images by name."""
    return [(image_id, cluster, 1) for image_id, cluster in clusters.items()]
