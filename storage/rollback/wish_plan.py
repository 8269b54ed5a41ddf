"""What moves, once some images want other heads: those images, and whoever follows them. Pure.

Whatever images want, each ends up at the root of its way (`storage.rollback.roots`). An image that others belong to
takes them with it, unless they want something else. A plan reads the store once from end to end and keeps nothing of
what it moves, so it may be of millions of images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from core.overrides import Override
from core.types import Cause, ImageId
from storage.interfaces import StoreView
from storage.moving import PlannedMove
from storage.overrides.rules import Rules
from storage.records import ClusterRecord, ImageRecord
from storage.rollback.roots import Roots

__all__ = ["WishPlan"]


class WishPlan:
    """The moves that an override causes."""

    def __init__(self, view: StoreView, rules: Rules, override: Override, wishes: dict[ImageId, ImageId]) -> None:
        """Takes what images want beside what overrides say.

        Args:
            view: The store.
            rules: Of the overrides that stand.
            override: What causes the moves.
            wishes: The head that an image wants.
        """
        self._view = view
        self._override = override
        self.roots = Roots(view, rules, wishes)
        self._pinned = dict.fromkeys(rules.pinned())

    def follow(self, view: StoreView) -> None:
        """Goes on with a later moment of the store."""
        self._view = view
        self.roots.follow(view)

    def moves(self) -> Iterator[PlannedMove]:
        """The moves, those of the new heads first. Each image moves once."""
        for image_id in self._wanting():
            if self.roots.of(image_id) == image_id:
                yield from self._move_of(image_id, image_id)
        for image_id in self._wanting():
            root = self.roots.of(image_id)
            if root == image_id:
                continue
            image = self._view.image(image_id)
            if (image is None or image.head == image_id) and self._view.cluster(image_id) is not None:
                yield from self._members_of(image_id, root)
            yield from self._move_of(image_id, root)

    def follower(self, image_id: ImageId) -> PlannedMove | None:
        """The move of an image that wants nothing, if its head moves."""
        image = self._view.image(image_id)
        root = None if image is None else self.roots.of(image_id)
        if image is None or root is None or root == image.head:
            return None
        return self._following(image, root)

    def cluster(self, head: ImageId) -> ClusterRecord | None:
        """A cluster as it is."""
        return self._view.cluster(head)

    def founding(self, head: ImageId) -> ClusterRecord:
        """The cluster of a head with one member, which is founded now unless it is there."""
        present = self._view.cluster(head)
        if present is not None:  # all its members have left, and others come
            return replace(present, count=1)
        image = self._view.image(head)
        embedding = None if image is None else self._view.embedding(image.place)
        code = b"" if embedding is None else embedding.score_code
        return ClusterRecord(head, 1, code, self._override.at_ms, image is None)

    def _wanting(self) -> Iterator[ImageId]:
        wishes = self.roots.wishes
        return chain(wishes, (each for each in self._pinned if each not in wishes))

    def _move_of(self, image_id: ImageId, root: ImageId) -> Iterator[PlannedMove]:
        image = self._view.image(image_id)
        if image is not None and root != image.head:
            yield PlannedMove(image, self._after(image, root))

    def _members_of(self, head: ImageId, root: ImageId) -> Iterator[PlannedMove]:
        """The members that follow their head, since they want nothing else."""
        for edge in self._view.edges_of(head, 0):
            if edge.member == head or edge.member in self.roots.wishes or edge.member in self._pinned:
                continue
            image = self._view.image(edge.member)
            if image is not None and image.head == head:
                yield self._following(image, root)

    def _following(self, image: ImageRecord, root: ImageId) -> PlannedMove:
        return PlannedMove(image, self._said(image, root, Cause.PINNED, image.head))

    def _after(self, image: ImageRecord, root: ImageId) -> ImageRecord:
        """An image that wants something, or is pinned, once it is with its root."""
        if root == image.image_id:
            return self._said(image, root, Cause.PARTED, None)
        return self._said(image, root, Cause.PINNED, self.roots.wanted(image.image_id))

    def _said(self, image: ImageRecord, head: ImageId, cause: Cause, matched: ImageId | None) -> ImageRecord:
        at_ms = self._override.at_ms
        return replace(image, head=head, score=None, matched=matched, cause=cause, decided_at_ms=at_ms)
