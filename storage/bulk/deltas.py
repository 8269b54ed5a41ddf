"""What a bulk move changes of a cluster, whatever else is written to it before the move is over. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from core.types import ImageId
from storage.records import ClusterRecord, ImageRecord

__all__ = ["ClusterDelta", "Deltas"]


class ClusterDelta(NamedTuple):
    """By how much the count changes, and what the cluster is founded with."""

    by: int
    founding: ClusterRecord | None = None
    """Its code, time and flag count, if it is founded, or founded anew; its count does not."""

    def applied(self, cluster: ClusterRecord | None) -> ClusterRecord | None:
        """The cluster after the move; None: it is empty.

        Raises:
            ValueError: There is no cluster, and none is founded.
        """
        count = self.by + (0 if cluster is None else cluster.count)
        if count == 0:
            return None
        base = self.founding or cluster
        if base is None or count < 0:
            raise ValueError(f"it would have {count} members")
        return replace(base, count=count)


class Deltas:
    """The deltas of the moves so far. There may be a million, so codes are looked up when they are written."""

    def __init__(
        self, cluster: Callable[[ImageId], ClusterRecord | None], founding: Callable[[ImageId], ClusterRecord]
    ) -> None:
        """Takes the clusters as they are, and those that are founded."""
        self._cluster = cluster
        self._founding = founding
        self.by: dict[ImageId, int] = {}
        """By how much the count of a cluster changes."""
        self._founds: set[ImageId] = set()
        self.founded = 0
        """How many clusters are founded."""
        self.emptied: set[ImageId] = set()
        """The heads of those that are empty afterwards."""

    def add(self, image: ImageRecord, after: ImageRecord) -> None:
        """Adds one move."""
        head = after.head
        if head == image.head:
            self.by.setdefault(head, 0)
            self._founds.add(head)
            return
        self.by[image.head] = self.by.get(image.head, 0) - 1
        if head not in self.by and self._cluster(head) is None:
            self._founds.add(head)
        self.by[head] = self.by.get(head, 0) + 1

    def of(self, head: ImageId) -> ClusterDelta:
        """The delta of a cluster that changes."""
        return ClusterDelta(self.by[head], self._founding(head) if head in self._founds else None)

    def close(self) -> None:
        """Counts the clusters, once all moves are added."""
        for head, by in self.by.items():
            cluster = self._cluster(head)
            if by + (0 if cluster is None else cluster.count) == 0:
                self.emptied.add(head)
            elif cluster is None:
                self.founded += 1
