"""What a rollback moves. Pure.

    image that was there       goes to the head that it had, or to wherever that one goes, with the verdict of then
    new image                  becomes its own head and is decided again, or keeps its head
    image that others follow   takes with it the members that want no other head
    deleted image              stays deleted; as a head of then it names its cluster again
    head of then               its cluster has the founding code of then

Overrides win over it (`storage.rollback.roots`). Versions and embeddings stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from core.overrides import NewImages, Override
from core.types import Cause, ImageId
from storage.interfaces import StoreView
from storage.moving import PlannedMove
from storage.overrides.rules import Rules
from storage.records import ClusterRecord, ImageRecord
from storage.rollback.changed import Changed, entry_at
from storage.rollback.points import AppliedAfter
from storage.rollback.roots import Roots

__all__ = ["RollbackPlan"]


class RollbackPlan:
    """The moves of one rollback."""

    def __init__(self, view: StoreView, rules: Rules, override: Override, applied_after: AppliedAfter) -> None:
        """Reads the history since the moment to go back to.

        Args:
            view: The store.
            rules: Of the overrides that stand.
            override: The rollback.
            applied_after: Of the overrides of the store.

        Raises:
            BadInputError: The history since then is not kept any more.
        """
        assert override.rollback is not None
        self._view = view
        self._override = override
        self._rollback = override.rollback
        self._applied_after = applied_after
        self._changed = Changed(view, self._rollback, applied_after)
        self.new = 0
        """How many images are decided again."""
        wishes = dict(self._wishes())
        self._roots = Roots(view, rules, wishes)
        self._roots.rename(self._lost_heads(wishes))
        self._roots.part()
        self._heads_then = {head for _, head in self._changed.heads()}
        self._pinned = {each: None for each in rules.pinned() if each not in wishes}

    def moves(self) -> Iterator[PlannedMove]:
        """The moves, those of the new heads first. Each image moves once."""
        yield from self._moves_of(founding=True)
        yield from self._moves_of(founding=False)

    def founding(self, head: ImageId) -> ClusterRecord:
        """The cluster of a head with one member: as it was then, else as it is, else founded now."""
        image = self._view.image(head)
        ended = next(self._view.ended_clusters(head, self._changed.first - 1), None)
        if ended is not None and head in self._heads_then:
            return replace(ended.cluster, count=1, head_deleted=image is None)
        present = self._view.cluster(head)
        if present is not None:  # all its members have left, and others come
            return replace(present, count=1)
        embedding = None if image is None else self._view.embedding(image.place)
        code = b"" if embedding is None else embedding.score_code
        return ClusterRecord(head, 1, code, self._override.at_ms, image is None)

    def _wishes(self) -> Iterator[tuple[ImageId, ImageId]]:
        for image_id, head in self._changed.heads():
            image = self._view.image(image_id)
            if image is None:
                continue
            if head is None:
                if self._rollback.new is NewImages.KEEP:
                    continue
                self.new += 1
                head = image_id
            if head != image.head:
                yield image_id, head

    def _lost_heads(self, wishes: dict[ImageId, ImageId]) -> dict[ImageId, ImageId]:
        """For each wanted head of which nothing is left, the oldest image that wants it."""
        oldest: dict[ImageId, tuple[int, ImageId]] = {}
        kept: set[ImageId] = set()
        for image_id, head in wishes.items():
            if head not in oldest and head not in kept and self._is_left(head):
                kept.add(head)
            if head not in kept:
                image = self._view.image(image_id)
                assert image is not None  # it has a wish
                oldest[head] = min(oldest.get(head, (image.place, image_id)), (image.place, image_id))
        return {head: image_id for head, (_, image_id) in oldest.items()}

    def _is_left(self, head: ImageId) -> bool:
        view = self._view
        return view.image(head) is not None or view.tombstone(head) is not None or view.cluster(head) is not None

    def _moves_of(self, *, founding: bool) -> Iterator[PlannedMove]:
        """Those of images that become their own heads, or those of all others."""
        wishes = self._roots.wishes
        recoded = self._recoded() if founding else iter(())
        for image_id in chain(wishes, self._pinned):
            image = self._view.image(image_id)
            if image is None:
                continue
            root = self._roots.of(image_id)
            if root != image.head and (root == image_id) is founding:
                yield PlannedMove(image, self._after(image, root))
            if root != image_id == image.head and not founding:
                yield from self._members_of(image, root)
        yield from recoded

    def _members_of(self, head: ImageRecord, root: ImageId) -> Iterator[PlannedMove]:
        """The members that follow their head, since they want nothing else."""
        for edge in self._view.edges_of(head.image_id, 0):
            image = self._view.image(edge.member)
            if image is None or edge.member == head.image_id or image.head != head.image_id:
                continue
            if edge.member not in self._roots.wishes and edge.member not in self._pinned:
                yield PlannedMove(image, replace(image, head=root, decided_at_ms=self._override.at_ms))

    def _recoded(self) -> Iterator[PlannedMove]:
        """Heads that stay where they are, and whose clusters have got another founding code since."""
        for head, then in self._changed.heads():
            cluster = self._view.cluster(head) if then == head else None
            image = None if cluster is None else self._view.image(head)
            if cluster is None or image is None or self._roots.of(head) != head or image.head != head:
                continue
            if self.founding(head).founding_code != cluster.founding_code and self._was_replaced(head):
                yield PlannedMove(image, self._after(image, head))

    def _was_replaced(self, head: ImageId) -> bool:
        return next(self._view.ended_clusters(head, self._changed.first - 1), None) is not None

    def _after(self, image: ImageRecord, root: ImageId) -> ImageRecord:
        at_ms = self._override.at_ms
        then = entry_at(self._view, image.image_id, self._rollback, self._applied_after)
        if then is not None and then.new_head == root and (then.cause is not Cause.UNSCORED or image.unscored):
            return replace(
                image,
                head=root,
                score=then.score,
                matched=then.matched,
                cause=then.cause,
                versions=then.versions,
                truncated=then.truncated,
                decided_at_ms=at_ms,
            )
        cause, matched = (
            (Cause.PARTED, None) if root == image.image_id else (Cause.PINNED, self._roots.wanted(image.image_id))
        )
        return replace(image, head=root, score=None, matched=matched, cause=cause, decided_at_ms=at_ms)
