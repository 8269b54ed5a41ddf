"""The moves of a cluster whose head is forgotten, if they are more than one write can carry. Pure.

What is written is the same as in one write (`storage.forgetting`), history numbers and sequences included: nobody else
writes meanwhile, so they are known before. Members are read twice, once for the heir, and none is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from core.types import Decision, ImageId
from storage.errors import ContradictionError
from storage.forgetting import cluster_after, heir_of
from storage.interfaces import StoreView
from storage.moving import StagedMoves, renamed
from storage.records import ClusterRecord, HistoryEntry, ImageRecord

__all__ = ["RenamedImage", "Renaming"]


class RenamedImage(NamedTuple):
    """One move: the image afterwards, and its history entry."""

    image: ImageRecord
    entry: HistoryEntry


class Renaming:
    """The moves of one cluster."""

    def __init__(self, view: StoreView, decision: Decision) -> None:
        """Finds the heir.

        Args:
            view: The store, which nobody writes to until the moves are made.
            decision: Forgets a head that has other members.

        Raises:
            ContradictionError: The cluster lists an image that is unknown.
        """
        state = view.state()
        self._view = view
        self._decision = decision
        self._ahead = state.ahead
        self.first = state.history_number + len(decision.moves) + 1
        """The number of its first history entry, the heir's."""
        self.total = 0
        """How many images move."""
        self.heir = heir_of(self._counted())

    def stage(self, moves: StagedMoves, decision: Decision, cluster: ClusterRecord) -> None:
        """Stages the move of the heir, and the cluster as it is after all moves: see `storage.forgetting.Rename`."""
        embedding = moves.embedding(self.heir.place)
        moves.rename(decision, self.heir, cluster_after(cluster, self.heir, embedding, 1))
        moves.rename_rest(cluster.head, cluster_after(cluster, self.heir, embedding, self.total))

    def rest(self) -> Iterator[RenamedImage]:
        """The moves of all but the heir, in order."""
        others = (each for each in self._members() if each.image_id != self.heir.image_id)
        for number, image in enumerate(others, self.first + 1):
            yield RenamedImage(*renamed(self._decision, image, self.heir.image_id, number, self._ahead))

    def _counted(self) -> Iterator[ImageRecord]:
        for image in self._members():
            self.total += 1
            yield image

    def _members(self) -> Iterator[ImageRecord]:
        head: ImageId = self._decision.image_id
        for edge in self._view.edges_of(head, 0):
            if edge.member == head:
                continue
            image = self._view.image(edge.member)
            if image is None:
                raise ContradictionError(
                    f"the cluster {head!r} lists {edge.member!r}, which is unknown: run `neardup verify`"
                )
            yield image
