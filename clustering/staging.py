"""What storage will answer once the staged decisions are written, so that later records of a batch see earlier ones."""

from __future__ import annotations

from dataclasses import replace

from core.errors import MismatchError
from core.types import (
    NO_HEAD,
    Cause,
    Cluster,
    Decision,
    ImageId,
    ImageRules,
    LastVerdict,
    Lookup,
    Membership,
    Move,
    RequestPosition,
    Tombstone,
)

__all__ = ["StagedLookup"]


_NO_RULES = ImageRules()


class StagedLookup:
    """A look-up of storage, with decisions applied to it."""

    def __init__(self, lookup: Lookup) -> None:
        self._position = lookup.position
        self._memberships: dict[ImageId, Membership | None] = dict(lookup.memberships)
        self._clusters: dict[ImageId, Cluster | None] = dict(lookup.clusters)
        self._tombstones: dict[ImageId, Tombstone] = dict(lookup.tombstones)
        self._verdicts = dict(lookup.verdicts)
        self._requests = dict(lookup.requests)
        self._rules = lookup.rules
        self._rule_heads = lookup.rule_heads

    def membership(self, image_id: ImageId) -> Membership | None:
        """Version, place and head of an image; None when it is unknown or deleted."""
        return self._memberships.get(image_id)

    def tombstone(self, image_id: ImageId) -> Tombstone | None:
        """What is left of an image that was deleted; None when it is unknown, or there again."""
        return self._tombstones.get(image_id)

    def last_version(self, image_id: ImageId) -> int:
        """The last version that was placed or deleted; -1: none."""
        known = self.membership(image_id) or self.tombstone(image_id)
        return -1 if known is None else known.version

    def verdict(self, image_id: ImageId) -> LastVerdict | None:
        """The last verdict on an image, if the look-up asked for it."""
        return self._verdicts.get(image_id)

    def applied(self, request: RequestPosition) -> bool:
        """Whether a request was applied before."""
        return request.offset <= self._requests.get(request.source, -1)

    @property
    def has_rules(self) -> bool:
        """Whether an override names any image that was looked up."""
        return bool(self._rules)

    def rules(self, image_id: ImageId) -> ImageRules:
        """What overrides say of an image that was looked up."""
        return self._rules.get(image_id, _NO_RULES)

    def head_of(self, image_id: ImageId) -> ImageId | None:
        """The head of an image that was looked up, or that the rules of such an image forbid or pin to.

        None: it is unknown or deleted.
        """
        if image_id in self._memberships:
            membership = self._memberships[image_id]
            return None if membership is None else membership.head
        return self._rule_heads.get(image_id)

    def cluster(self, head: ImageId) -> Cluster:
        """The cluster of a head.

        Raises:
            MismatchError: Storage's answer names the head but does not have its cluster.
        """
        cluster = self._clusters.get(head)
        if cluster is None:
            raise MismatchError(
                f"storage (at offset {self._position.offset}) has images under the head {head!r}, but no such "
                f"cluster: check it with `neardup verify`"
            )
        return cluster

    def home(self, image_id: ImageId) -> Cluster | None:
        """The cluster of an image, or the one that still has the name of the deleted image."""
        membership = self.membership(image_id)
        return self._clusters.get(image_id) if membership is None else self.cluster(membership.head)

    def names_others(self, image_id: ImageId) -> bool:
        """Whether an image, there or deleted, names a cluster that others are members of."""
        membership, cluster = self.membership(image_id), self._clusters.get(image_id)
        return cluster is not None and cluster.count > (membership is not None)

    def stage(self, decision: Decision) -> None:
        """Applies one decision."""
        if decision.tombstone is not None:
            self._tombstones[decision.image_id] = decision.tombstone
        if decision.request is not None and not self.applied(decision.request):
            self._requests[decision.request.source] = decision.request.offset
        for move in decision.moves:
            self._move(move, decision)
            self._verdicts[move.image_id] = self._said(move, decision)
            if move.new_head == NO_HEAD:
                self._memberships[move.image_id] = None
            elif move.image_id == decision.image_id:
                membership = Membership(move.image_id, decision.version, decision.place, move.new_head)
                self._memberships[move.image_id] = membership
                self._tombstones.pop(move.image_id, None)
            else:
                self._memberships[move.image_id] = self._known(move.image_id)._replace(head=move.new_head)

    def _said(self, move: Move, decision: Decision) -> LastVerdict:
        """The verdict that a move leaves. An unscored image stays so, until it gets a new version or a new place."""
        last, membership = self.verdict(move.image_id), self.membership(move.image_id)
        stays = move.image_id != decision.image_id or (membership is not None and membership.place == decision.place)
        unscored = move.cause is Cause.UNSCORED or (stays and last is not None and last.unscored)
        return LastVerdict(move.cause, move.score, move.matched, decision.versions, unscored)

    def _move(self, move: Move, decision: Decision) -> None:
        image_id, old_head, new_head = move.image_id, move.old_head, move.new_head
        if old_head is not None:
            old = self.cluster(old_head)
            if old_head == new_head and (new_head != image_id or old.count > 1):
                return
            self._leave(image_id, old)
        if new_head == NO_HEAD:
            return
        joined = self._clusters.get(new_head) if new_head == image_id else self.cluster(new_head)
        if joined is None:
            self._clusters[image_id] = Cluster(image_id, 1, decision.score_code)
        else:
            flagged = joined.head_deleted and new_head != image_id
            self._clusters[new_head] = replace(joined, count=joined.count + 1, head_deleted=flagged)

    def _leave(self, image_id: ImageId, old: Cluster) -> None:
        flagged = old.head_deleted or old.head == image_id
        self._clusters[old.head] = None if old.count == 1 else replace(old, count=old.count - 1, head_deleted=flagged)

    def _known(self, image_id: ImageId) -> Membership:
        membership = self.membership(image_id)
        if membership is None:
            raise MismatchError(f"the image {image_id!r} moves, but storage does not know it")
        return membership
