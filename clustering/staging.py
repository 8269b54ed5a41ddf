"""What storage will answer once the staged decisions are written, so that later images of a batch see earlier ones."""

from __future__ import annotations

from dataclasses import replace

from core.errors import MismatchError
from core.types import Cluster, Decision, ImageId, Lookup, Membership, Move

__all__ = ["StagedLookup"]


class StagedLookup:
    """A look-up of storage, with decisions applied to it."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._memberships: dict[ImageId, Membership] = {}
        self._clusters: dict[ImageId, Cluster | None] = {}

    def membership(self, image_id: ImageId) -> Membership | None:
        """Version, place and head of an image; None when it is unknown."""
        return self._memberships.get(image_id) or self._lookup.memberships.get(image_id)

    def cluster(self, head: ImageId) -> Cluster:
        """The cluster of a head.

        Raises:
            MismatchError: Storage's answer names the head but does not have its cluster.
        """
        cluster = self._clusters[head] if head in self._clusters else self._lookup.clusters.get(head)
        if cluster is None:
            raise MismatchError(
                f"storage (at offset {self._lookup.position.offset}) has images under the head {head!r}, but no such "
                f"cluster: check it with `neardup verify`"
            )
        return cluster

    def stage(self, decision: Decision) -> None:
        """Applies one decision."""
        for move in decision.moves:
            self._move(move, decision)
            if move.image_id == decision.image_id:
                membership = Membership(move.image_id, decision.version, decision.place, move.new_head)
            else:
                membership = self._known(move.image_id)._replace(head=move.new_head)
            self._memberships[move.image_id] = membership

    def _move(self, move: Move, decision: Decision) -> None:
        image_id, old_head, new_head = move.image_id, move.old_head, move.new_head
        if old_head is not None:
            old = self.cluster(old_head)
            if old_head == new_head == image_id and old.count > 1:
                return
            self._clusters[old_head] = None if old_head == image_id else replace(old, count=old.count - 1)
        if new_head == image_id:
            self._clusters[image_id] = Cluster(image_id, 1, decision.score_code)
        else:
            joined = self.cluster(new_head)
            self._clusters[new_head] = replace(joined, count=joined.count + 1)

    def _known(self, image_id: ImageId) -> Membership:
        membership = self.membership(image_id)
        if membership is None:
            raise MismatchError(f"the image {image_id!r} moves, but storage does not know it")
        return membership
