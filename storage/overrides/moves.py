"""What an override moves when it is applied: images, and whole clusters. Pure.

    pin, merge   the image and those that follow it go to the cluster of the target; of a head, its whole cluster goes
    forbid       if both share a cluster, the one that is not its head leaves, else the younger one
    split        the first image leaves the cluster of the target
    rollback     what `storage.rollback` says
    undo         nothing: the images are decided again; of a rollback, what that one moved goes back

An image that leaves becomes its own head, and those that follow it go with it. An image that is unknown, or was
deleted, is left alone: the stream obeys when it comes.

When somebody says an override, a forbid that stands refuses it. When a store applies it again, forbids come first and
the moves that they refuse are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from core.errors import BadInputError, ConflictError
from core.overrides import Override, OverrideKind
from core.types import Cause, ImageId
from storage.interfaces import StoreView
from storage.moving import Changes, StagedMoves
from storage.overrides.relations import Tie
from storage.overrides.rules import Rules
from storage.records import ImageRecord
from storage.rollback.planning import RollbackPlan
from storage.rollback.points import AppliedAfter, first_after

__all__ = ["MAX_MOVED", "Placing", "TooManyMovesError", "part_images", "resolved", "stage_override"]

MAX_MOVED = 10_000
"""The most images that move in one write. What moves more is a bulk move (`storage.bulk`)."""


class TooManyMovesError(BadInputError):
    """An override moves more images than one write can carry."""


class Placing(Protocol):
    """What takes the moves of an override. Later moves see what earlier ones changed."""

    def image(self, image_id: ImageId) -> ImageRecord | None:
        """An image; None: unknown or deleted."""
        ...

    def override(self, override: Override, image: ImageRecord, head: ImageId, cause: Cause, matched: ImageId) -> None:
        """Takes the move of one image to a head."""
        ...


def resolved(view: StoreView, override: Override) -> Override:
    """An override in terms of the clusters that are there: a merge names heads, a split first its oldest image.

    Raises:
        BadInputError: The target is unknown, or an image is not where the override says.
    """
    target = override.target
    match override.kind:
        case OverrideKind.PIN if target is not None:
            if view.image(target) is None:
                raise BadInputError(f"no image {target!r} is known: nothing can be pinned to it")
        case OverrideKind.SPLIT if target is not None:
            head = _head_of(view, target)
            return replace(override, target=head, images=_oldest_first(view, override.images, head))
        case OverrideKind.MERGE if target is not None:
            head = _head_of(view, target)
            goal = head if view.image(head) is not None else next(view.edges_of(head, 0)).member
            heads = tuple(dict.fromkeys(each for image in override.images if (each := _head_of(view, image)) != head))
            if not heads:
                raise BadInputError(f"all of these images are in the cluster of {head!r} already")
            return replace(override, target=goal, images=heads)
    return override


def stage_override(
    view: StoreView,
    rules: Rules,
    override: Override,
    applied_after: AppliedAfter,
    *,
    again: bool,
    most: int | None = MAX_MOVED,
) -> Changes:
    """Everything that an override changes beside its rules.

    Args:
        view: The store.
        rules: Of the overrides that stand, this one included.
        override: What is applied.
        applied_after: Of the overrides of the store.
        again: It was said before; whatever it can no longer move is left out.
        most: How many images may move; None: any number.

    Raises:
        BadInputError: The history that it needs is not kept any more.
        TooManyMovesError: More would move.
        ConflictError: A forbid refuses a move; the message names it.
    """
    if override.rollback is not None:
        return _roll_back(view, rules, override, applied_after, most)
    moves = StagedMoves(view, view.state())
    stage = _Stage(moves, view, rules, override, again, most)
    if override.kind in (OverrideKind.PIN, OverrideKind.MERGE):
        stage.bring_all()
    else:
        stage.part_all()
    return moves.changes


def part_images(moves: Placing, view: StoreView, rules: Rules, override: Override, *, again: bool) -> None:
    """The moves of a split or a forbid, however many they are. See `stage_override`."""
    _Stage(moves, view, rules, override, again, None).part_all()


def _roll_back(
    view: StoreView, rules: Rules, override: Override, applied_after: AppliedAfter, most: int | None
) -> Changes:
    assert override.rollback is not None
    since = view.state().history_number + 1 - first_after(view, override.rollback.to, applied_after)
    if most is not None and since > most:
        raise TooManyMovesError(f"{since} changes came since then, and one write moves at most {most} images")
    plan = RollbackPlan(view, rules, override, applied_after)
    staged = StagedMoves(view, view.state())
    for number, move in enumerate(plan.moves()):
        if number == most:
            raise TooManyMovesError(f"one write moves at most {most} images")
        staged.place(override, move, plan.founding)
    return staged.changes


def _head_of(view: StoreView, image_id: ImageId) -> ImageId:
    image = view.image(image_id)
    if image is not None:
        return image.head
    if view.cluster(image_id) is not None:  # the head was deleted, and names the cluster
        return image_id
    raise BadInputError(f"no image {image_id!r} is known, so it has no cluster")


def _oldest_first(view: StoreView, images: Iterable[ImageId], head: ImageId) -> tuple[ImageId, ...]:
    """The images of a split, which are members of the cluster of a head."""
    found: list[ImageRecord] = []
    for image_id in images:
        image = view.image(image_id)
        if image is None or image.head != head:
            raise BadInputError(f"{image_id!r} is no member of the cluster of {head!r}")
        if image_id == head:
            raise BadInputError(f"{head!r} is the head and names the cluster: split the others from it")
        found.append(image)
    return tuple(image.image_id for image in sorted(found, key=lambda image: image.place))


class _Stage:
    """The moves of one override so far."""

    def __init__(
        self, moves: Placing, view: StoreView, rules: Rules, override: Override, again: bool, most: int | None
    ) -> None:
        self._moves = moves
        self._view = view
        self._rules = rules
        self._override = override
        self._again = again
        self._most = most
        self._moved = 0

    def bring_all(self) -> None:
        """Moves the images of a pin or a merge to their target."""
        target = self._override.target
        assert target is not None
        for image_id in self._override.images:
            self.bring(image_id, target)

    def part_all(self) -> None:
        """Parts the images of a forbid from their target; of a split the first, which the others follow."""
        target = self._override.target
        for image_id in self._override.images[: 1 if self._override.kind is OverrideKind.SPLIT else None]:
            assert target is not None
            self.part(image_id, target)

    def bring(self, image_id: ImageId, target: ImageId) -> None:
        """Moves an image, or the cluster that it is the head of, to the cluster of its target."""
        goal = self._moves.image(target)
        if goal is None or image_id == goal.head:
            return
        there = self._moves.image(image_id) is not None or self._override.kind is OverrideKind.MERGE
        going = (self._cluster_of(image_id) if there else []) or self._with_followers(image_id, target)
        going = [(image, matched) for image, matched in going if image.head != goal.head]
        if any(self._is_refused(image.image_id, goal.head) for image, _ in going):
            return
        for image, matched in going:
            self._put(image, goal.head, Cause.PINNED, matched)

    def part(self, image_id: ImageId, target: ImageId) -> None:
        """Takes one of two images out of the cluster that they share."""
        one, other = self._moves.image(image_id), self._moves.image(target)
        if one is None:
            one, other, target = other, None, image_id
        if one is None or one.head != (target if other is None else other.head):
            return  # a deleted head is in its cluster no more, and names it
        leaver, stays = self._leaver(one, other) if other is not None else (one, None)
        self._check_free(leaver)
        going = self._with_followers(leaver.image_id, target if stays is None else stays.image_id)
        for image, matched in going:
            cause = Cause.PARTED if image.image_id == leaver.image_id else Cause.PINNED
            self._put(image, leaver.image_id, cause, matched)

    def _cluster_of(self, head: ImageId) -> list[tuple[ImageRecord, ImageId]]:
        """The members of a cluster by its head, the head last; none if it is no head."""
        cluster = self._view.cluster(head)
        if cluster is None:
            return []
        if self._most is not None and cluster.count > self._most:
            raise TooManyMovesError(
                f"the cluster of {head!r} has {cluster.count} members, and one write moves at most {self._most}"
            )
        edges = self._view.edges_of(head, 0)
        images = [image for edge in edges if (image := self._moves.image(edge.member)) is not None]
        members = [image for image in images if image.head == head]
        members.sort(key=lambda image: image.image_id == head)
        target = self._override.target
        assert target is not None
        return [(image, target if image.image_id == head else head) for image in members]

    def _with_followers(self, image_id: ImageId, matched: ImageId) -> list[tuple[ImageRecord, ImageId]]:
        """An image and those of its cluster that follow it, each with the image that it goes for."""
        image = self._moves.image(image_id)
        if image is None:
            return []
        followers = (
            (found, target)
            for follower, target in self._rules.followers_of(image_id)
            if (found := self._moves.image(follower)) is not None and found.head == image.head
        )
        # A head that others belong to stays.
        return [(image, matched), *(each for each in followers if each[0].image_id != image.head)]

    def _is_refused(self, image_id: ImageId, head: ImageId) -> bool:
        """Whether a forbid refuses that an image comes into a cluster."""
        for other in self._rules.of(image_id).forbidden:
            found = self._moves.image(other)
            # A deleted head comes back as the head of the cluster that it names.
            if (other if found is None else found.head) == head:
                if self._again:
                    return True
                number = self._rules.number_of(Tie.FORBID, image_id, other)
                raise ConflictError(
                    f"the override {number} forbids {image_id!r} with {other!r}, which is in the cluster of {head!r}: "
                    f"undo that one first"
                )
        return False

    def _leaver(self, one: ImageRecord, other: ImageRecord) -> tuple[ImageRecord, ImageRecord]:
        """Of two members of a cluster, the one that leaves and the one that stays.

        The head stays, else the older one, unless a pin holds the younger.
        """
        if one.image_id == one.head or (other.image_id != one.head and one.place < other.place):
            one, other = other, one
        if other.image_id != one.head and self._pin_that_holds(one) and not self._pin_that_holds(other):
            return other, one
        return one, other

    def _check_free(self, leaver: ImageRecord) -> None:
        """Makes sure that no pin is broken by an image that leaves."""
        pin = self._pin_that_holds(leaver)
        if pin is not None and not self._again:
            number = self._rules.number_of(Tie.PIN, *pin)
            raise ConflictError(
                f"the override {number} pins {pin[0]!r} to {pin[1]!r}, and one of them stays in the cluster of "
                f"{leaver.head!r}: undo that one first"
            )

    def _pin_that_holds(self, image: ImageRecord) -> tuple[ImageId, ImageId] | None:
        """The pin, as image and target, that ties a member of a cluster to one that stays there."""
        target = self._rules.of(image.image_id).pinned_to
        held = None if target is None else self._moves.image(target)
        if target is not None and held is not None and held.head == image.head:
            return image.image_id, target
        followers = dict(self._rules.followers_of(image.image_id))
        return (image.head, followers[image.head]) if image.head in followers else None

    def _put(self, image: ImageRecord, head: ImageId, cause: Cause, matched: ImageId) -> None:
        if self._moved == self._most:
            raise TooManyMovesError(f"one write moves at most {self._most} images")
        self._moved += 1
        self._moves.override(self._override, image, head, cause, matched)
