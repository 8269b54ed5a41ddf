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

from core.overrides import NewImages, Override
from core.pseudonyms import is_pseudonym
from core.types import Cause, ImageId
from storage.erasing import AsErased
from storage.interfaces import StoreView
from storage.moving import PlannedMove
from storage.overrides.rules import Rules
from storage.records import ClusterRecord, ImageRecord
from storage.rollback.changed import Changed, entry_at
from storage.rollback.points import AppliedAfter
from storage.rollback.wish_plan import WishPlan

__all__ = ["RollbackPlan"]


class RollbackPlan(WishPlan):
    """The moves of one rollback."""

    def __init__(self, view: StoreView, rules: Rules, override: Override, applied_after: AppliedAfter) -> None:
        """Reads the history since the moment to go back to.

        Args:
            view: The store.
            rules: Of the overrides that stand.
            override: The rollback, or the undo of one.
            applied_after: Of the overrides of the store.

        Raises:
            BadInputError: The history since then is not kept any more.
        """
        assert override.rollback is not None
        self._rollback = override.rollback
        self._applied_after = applied_after
        self._history = AsErased(view)
        self._changed = Changed(view, self._rollback, applied_after)
        self._heads_then = {head: None for _, head in self._changed.heads() if head is not None}
        super().__init__(view, rules, override, dict(self._wishes(view)))
        self.roots.rename(self._lost_heads())
        self.roots.part()

    def moves(self) -> Iterator[PlannedMove]:
        """The moves, those of the new heads first; then heads that stay and get another founding code."""
        yield from super().moves()
        for head in self._heads_then:
            cluster, image = self._view.cluster(head), self._view.image(head)
            if cluster is None or image is None or image.head != head or self.roots.of(head) != head:
                continue
            earlier = self._ended(head)
            if earlier is not None and earlier.founding_code != cluster.founding_code:
                yield PlannedMove(image, self._after(image, head))

    def founding(self, head: ImageId) -> ClusterRecord:
        """The cluster of a head with one member: as it was then, else as it is, else founded now."""
        then = self._ended(head) if head in self._heads_then else None
        if then is None:
            return super().founding(head)
        return replace(then, count=1, head_deleted=self._view.image(head) is None)

    def _ended(self, head: ImageId) -> ClusterRecord | None:
        """The cluster of a head before its first end since then."""
        found = next(self._view.ended_clusters(head, self._changed.first - 1), None)
        return None if found is None else found.cluster

    def _wishes(self, view: StoreView) -> Iterator[tuple[ImageId, ImageId]]:
        for image_id, head in self._changed.heads():
            if head is None and self._rollback.new is NewImages.KEEP:
                continue
            image = view.image(image_id)
            wish = image_id if head is None else head
            if image is not None and wish != image.head:
                yield image_id, wish

    def _lost_heads(self) -> dict[ImageId, ImageId]:
        """For each wanted head of which nothing is left, the oldest image that wants it."""
        left: dict[ImageId, bool] = {}
        oldest: dict[ImageId, tuple[int, ImageId]] = {}
        for image_id, head in self.roots.wishes.items():
            if head not in left:
                left[head] = self._is_left(head)
            image = None if left[head] else self._view.image(image_id)
            if image is not None:
                oldest[head] = min(oldest.get(head, (image.place, image_id)), (image.place, image_id))
        return {head: image_id for head, (_, image_id) in oldest.items()}

    def _is_left(self, head: ImageId) -> bool:
        view = self._view
        if view.image(head) is not None or view.cluster(head) is not None:
            return True
        tombstone = view.tombstone(head)
        return tombstone is not None and not is_pseudonym(tombstone.image_id)  # what was forgotten names nothing

    def _after(self, image: ImageRecord, root: ImageId) -> ImageRecord:
        then = entry_at(self._history, image.image_id, self._rollback, self._applied_after)
        if then is None or then.new_head != root or (then.cause is Cause.UNSCORED and not image.unscored):
            return super()._after(image, root)
        return replace(
            image,
            head=root,
            score=then.score,
            matched=then.matched,
            cause=then.cause,
            versions=then.versions,
            truncated=then.truncated,
            decided_at_ms=self._override.at_ms,
        )
