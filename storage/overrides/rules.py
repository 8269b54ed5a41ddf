"""The overrides that stand, by image, and whether a further one contradicts them. It knows no clusters.

Images that are pinned to one another, directly or by others, are *tied*: they always share a cluster. So two tied
images cannot be forbidden to each other. An image is pinned to one target.

At most a thousand images are forbidden to one, not counting those that are pinned to another of them: a large split
counts as its oldest. Of more than a thousand followers a look-up brings none: their target was a head when they were
pinned to it, and no verdict moves a head that has members.

One thread writes, any number read: each image's rules are replaced as a whole, and a copy is gone through.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NoReturn

from core.errors import BadInputError, ConflictError
from core.overrides import MAX_FOLLOWERS, MAX_FORBIDDEN, Override
from core.types import ImageId, ImageRules
from storage.overrides.relations import Relation, Tie, relations

__all__ = ["NO_RULES", "Rules"]

NO_RULES = ImageRules()
"""Of an image that no override names."""


class Rules:
    """What overrides say of each image."""

    def __init__(self) -> None:
        self._of: dict[ImageId, ImageRules] = {}
        self._said_by: dict[Relation, tuple[int, ...]] = {}
        """The numbers of the overrides that say it, ascending."""
        self._changes = 0

    def of(self, image_id: ImageId) -> ImageRules:
        """What overrides say of an image."""
        return self._of.get(image_id, NO_RULES)

    def named(self, ids: Iterable[ImageId]) -> dict[ImageId, ImageRules]:
        """The rules of those images that have any, with as many followers as look-ups bring."""
        found = self._of
        return {
            image_id: rules if len(rules.followers) <= MAX_FORBIDDEN else rules._replace(followers=())
            for image_id in ids
            if (rules := found.get(image_id)) is not None
        }

    def forbidden_pairs(self) -> Iterator[tuple[ImageId, ImageId]]:
        """The pairs of images that must not meet, in the order in which it was said."""
        return ((each.one, each.other) for each in self._said_by.copy() if each.tie is Tie.FORBID)

    def pinned(self) -> Iterator[ImageId]:
        """The images that are pinned to others, in the order in which it was said."""
        return (each.one for each in self._said_by.copy() if each.tie is Tie.PIN)

    def add(self, override: Override, prepared: Rules | None = None) -> None:
        """From now on the override stands.

        Args:
            override: The override.
            prepared: What `with_` or `checked` gave for it; saves the time of finding it again.
        """
        if isinstance(prepared, _MoreRules) and prepared.rests_on(self, self._changes):
            self._said_by.update(prepared._said_by)
            self._of.update(prepared._of)
            self._changes += 1
            return
        fresh: list[Relation] = []
        for each in relations(override):
            numbers = self._numbers(each)
            self._said_by[each] = (*numbers, override.number)
            if not numbers:
                fresh.append(each)
        for image_id, more in _by_image(fresh).items():
            pinned_to, forbidden, followers = self.of(image_id)
            self._of[image_id] = ImageRules(
                more.pinned_to or pinned_to, (*forbidden, *more.forbidden), (*followers, *more.followers)
            )
        self._changes += 1

    def remove(self, override: Override) -> None:
        """The override is undone. What others say too still stands."""
        gone: list[Relation] = []
        for each in dict.fromkeys(relations(override)):
            left = tuple(number for number in self._numbers(each) if number != override.number)
            if left:
                self._said_by[each] = left
            else:
                del self._said_by[each]
                gone.append(each)
        for image_id, less in _by_image(gone).items():
            pinned_to, forbidden, followers = self.of(image_id)
            rules = ImageRules(
                None if less.pinned_to else pinned_to,
                tuple(each for each in forbidden if each not in less.forbidden),
                tuple(each for each in followers if each not in less.followers),
            )
            if rules == NO_RULES:
                del self._of[image_id]
            else:
                self._of[image_id] = rules
        self._changes += 1

    def with_(self, override: Override) -> Rules:
        """These rules and those of one more override. It holds only while these are not changed."""
        more = _MoreRules(self)
        more.add(override)
        return more

    def checked(self, override: Override) -> Rules:
        """These rules and those of one more override, which contradicts no other. See `with_`.

        Raises:
            BadInputError: It contradicts itself, or names an image that too many overrides name.
            ConflictError: It contradicts another one; the message names it.
        """
        for each in relations(override):
            if each.one == each.other:
                raise BadInputError(f"the image {each.one!r} is named twice: an override relates different images")
            if each.tie is Tie.PIN:
                self._check_target(each)
        after = self.with_(override)
        for image_id, rules in after._of.items():
            if len(rules.followers) > MAX_FOLLOWERS:
                raise BadInputError(f"overrides pin more than {MAX_FOLLOWERS} images to {image_id!r}")
            if len(rules.forbidden) > MAX_FORBIDDEN and after._counted(rules) > MAX_FORBIDDEN:
                raise BadInputError(f"overrides forbid {image_id!r} more than {MAX_FORBIDDEN} other images")
        checked: set[ImageId] = set()
        for each in relations(override):
            if each.one not in checked:
                checked |= self._check_group(after.tied(each.one), after)
        return after

    def tied(self, image_id: ImageId) -> set[ImageId]:
        """The images that are tied to an image, itself included."""
        found, waiting = {image_id}, [image_id]
        while waiting:
            rules = self.of(waiting.pop())
            near = rules.followers if rules.pinned_to is None else (*rules.followers, rules.pinned_to)
            fresh = [each for each in near if each not in found]
            found.update(fresh)
            waiting += fresh
        return found

    def followers_of(self, image_id: ImageId) -> Iterator[tuple[ImageId, ImageId]]:
        """The images that follow an image, directly or by others, each with the one that it is pinned to."""
        seen, waiting = {image_id}, deque([image_id])
        while waiting:
            target = waiting.popleft()
            for follower in self.of(target).followers:
                if follower not in seen:
                    seen.add(follower)
                    waiting.append(follower)
                    yield follower, target

    def number_of(self, tie: Tie, one: ImageId, other: ImageId) -> int:
        """The first override that says this of two images; 0: none."""
        pair = Relation(tie, one, other) if tie is Tie.PIN else Relation(tie, min(one, other), max(one, other))
        return next(iter(self._numbers(pair)), 0)

    def _numbers(self, relation: Relation) -> tuple[int, ...]:
        """The numbers of the overrides that say it, ascending."""
        return self._said_by.get(relation, ())

    def _check_target(self, pin: Relation) -> None:
        """An image has one target, and does not follow itself."""
        target = self.of(pin.one).pinned_to
        if target not in (None, pin.other):
            raise ConflictError(f"{self._words(Tie.PIN, pin.one, target)}: undo that one first")
        follower = pin.other
        while (target := self.of(follower).pinned_to) is not None:
            if target == pin.one:
                raise ConflictError(f"{self._words(Tie.PIN, follower, target)}, so both are together already")
            follower = target

    def _check_group(self, group: set[ImageId], after: Rules) -> set[ImageId]:
        """Makes sure that of a group of tied images no two are forbidden to each other."""
        for one in group:
            for other in after.of(one).forbidden:
                if other in group:
                    self._refuse(one, other, group)
        return group

    def _refuse(self, one: ImageId, other: ImageId, group: Iterable[ImageId]) -> NoReturn:
        """Names an earlier override that makes it a contradiction to forbid two images of a group of tied ones."""
        if self.number_of(Tie.FORBID, one, other):
            raise ConflictError(f"{self._words(Tie.FORBID, one, other)}: undo that one first")
        for follower in (one, other, *group):
            target = self.of(follower).pinned_to
            if target is not None:
                raise ConflictError(f"{self._words(Tie.PIN, follower, target)}: undo that one first")
        raise BadInputError(f"the override contradicts itself: it both ties and parts {one!r} and {other!r}")

    def _words(self, tie: Tie, one: ImageId, other: ImageId) -> str:
        number = self.number_of(tie, one, other)
        what = f"pins {one!r} to {other!r}" if tie is Tie.PIN else f"forbids {one!r} with {other!r}"
        return f"the override {number} {what}"

    def _counted(self, rules: ImageRules) -> int:
        """How many of the forbidden images are not pinned to another of them."""
        all_of_them = set(rules.forbidden)
        return sum(self.of(each).pinned_to not in all_of_them for each in rules.forbidden)


class _MoreRules(Rules):
    """Other rules, and more on top of them."""

    def __init__(self, base: Rules) -> None:
        super().__init__()
        self._base = base
        self._since = base._changes

    def rests_on(self, base: Rules, changes: int) -> bool:
        """Whether these are the other rules, and they have not changed."""
        return self._base is base and self._since == changes

    def of(self, image_id: ImageId) -> ImageRules:
        """See `Rules.of`."""
        return self._of.get(image_id) or self._base.of(image_id)

    def forbidden_pairs(self) -> Iterator[tuple[ImageId, ImageId]]:
        """See `Rules.forbidden_pairs`."""
        return chain(self._base.forbidden_pairs(), super().forbidden_pairs())

    def pinned(self) -> Iterator[ImageId]:
        """See `Rules.pinned`."""
        return chain(self._base.pinned(), super().pinned())

    def _numbers(self, relation: Relation) -> tuple[int, ...]:
        return self._said_by.get(relation) or self._base._numbers(relation)


class _Related:
    """What some relations say of one image."""

    __slots__ = ("followers", "forbidden", "pinned_to")

    def __init__(self) -> None:
        self.pinned_to: ImageId | None = None
        self.forbidden: dict[ImageId, None] = {}
        self.followers: dict[ImageId, None] = {}


def _by_image(relations: Iterable[Relation]) -> dict[ImageId, _Related]:
    """Relations by image. A split has a hundred thousand, most of them with the same two images."""
    found: defaultdict[ImageId, _Related] = defaultdict(_Related)
    for tie, one, other in relations:
        if tie is Tie.PIN:
            found[one].pinned_to = other
            found[other].followers[one] = None
        else:
            found[one].forbidden[other] = None
            found[other].forbidden[one] = None
    return found
