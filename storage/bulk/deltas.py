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
    """The deltas of the moves so far, by head."""

    def __init__(
        self, cluster: Callable[[ImageId], ClusterRecord | None], founding: Callable[[ImageId], ClusterRecord]
    ) -> None:
        """Takes the clusters as they are, and those that are founded."""
        self._cluster = cluster
        self._founding = founding
        self.of: dict[ImageId, ClusterDelta] = {}
        self.founded = 0
        """How many clusters are founded."""
        self.emptied: set[ImageId] = set()
        """The heads of those that are empty afterwards."""

    def add(self, image: ImageRecord, after: ImageRecord) -> None:
        """Adds one move."""
        if after.head == image.head:
            self._change(after.head, 0, self._founding(after.head))
            return
        self._change(image.head, -1)
        founds = after.head not in self.of and self._cluster(after.head) is None
        self._change(after.head, 1, self._founding(after.head) if founds else None)

    def close(self) -> None:
        """Counts the clusters, once all moves are added."""
        for head, delta in self.of.items():
            cluster = self._cluster(head)
            if delta.applied(cluster) is None:
                self.emptied.add(head)
            elif cluster is None:
                self.founded += 1

    def _change(self, head: ImageId, by: int, founding: ClusterRecord | None = None) -> None:
        known = self.of.get(head, ClusterDelta(0))
        self.of[head] = ClusterDelta(known.by + by, founding or known.founding)
