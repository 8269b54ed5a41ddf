"""All overrides in order: those that stand, those that were undone, and those that a rebuilt store has not reached.

A store that is built again from the order applies each override where it was applied first. Until then it waits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from core.errors import BadInputError
from core.overrides import MAX_IMAGES, ListedOverride, Override, OverrideKind, OverrideRequest
from core.types import ImageId
from storage.limits import check_override
from storage.overrides.rules import Rules

__all__ = ["OverrideBook", "checked_request", "fingerprint"]


def fingerprint(kind: OverrideKind, images: Iterable[ImageId], target: ImageId | None) -> str:
    """Equal for two requests that say the same, in whatever order they name the images."""
    said = json.dumps([kind, sorted(images), target])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def checked_request(request: OverrideRequest) -> OverrideRequest:
    """A request with each image once.

    Raises:
        BadInputError: It lacks something, or a part is too long.
    """
    check_override(request)
    images = tuple(dict.fromkeys(request.images))
    about = bool(images) or request.target is not None
    match request.kind:
        case OverrideKind.ROLLBACK:
            if about or request.undoes or request.rollback is None:
                raise BadInputError("a rollback names a time or a change, and no images")
        case _ if request.rollback is not None:
            raise BadInputError(f"the override {request.kind} goes back to no moment: say a rollback")
        case OverrideKind.UNDO:
            if about or request.undoes < 1:
                raise BadInputError("an undo names the number of an override, and nothing else")
        case _:
            if request.undoes or request.target is None or not images:
                raise BadInputError(f"the override {request.kind} takes 1 to {MAX_IMAGES} images and a target")
    return replace(request, images=images)


class OverrideBook:
    """The overrides of a store. One thread writes, any number read."""

    def __init__(self) -> None:
        self.rules = Rules()
        """Of those that were applied and not undone."""
        self._all: list[Override] = []
        self._undone_by: dict[int, int] = {}
        self._naming: dict[ImageId, list[int]] = {}
        self._said: dict[str, int] = {}
        """The last override of a fingerprint: of its request, and of what it became."""
        self._applied = 0

    @property
    def last(self) -> int:
        """The number of the last override; 0: there is none."""
        return len(self._all)

    def keep(self, override: Override) -> None:
        """Adds an override, which is not applied yet."""
        self._all.append(override)
        if override.kind is not OverrideKind.ROLLBACK:  # the next one finds other changes
            for known in (override.asked, fingerprint(override.kind, override.images, override.target)):
                self._said[known] = override.number
        for image_id in _named(override):
            self._naming.setdefault(image_id, []).append(override.number)
        if override.kind is OverrideKind.UNDO:
            self._undone_by[override.undoes] = override.number
            for image_id in _named(self.get(override.undoes)):
                self._naming[image_id].append(override.number)

    def apply(self, override: Override, prepared: Rules | None = None) -> None:
        """From now on an override is applied: the one after the last that was. A repeated call does nothing.

        `prepared` is what `Rules.add` takes.
        """
        if override.number <= self._applied:
            return
        if override.kind is OverrideKind.UNDO:
            self.rules.remove(self.get(override.undoes))
        else:
            self.rules.add(override, prepared)
        self._applied = override.number

    def get(self, number: int) -> Override:
        """The override of a number that there is."""
        return self._all[number - 1]

    def next_after(self, number: int) -> Override | None:
        """The override after one; None: there is none."""
        return self._all[number] if number < len(self._all) else None

    def same(self, request: OverrideRequest) -> Override | None:
        """What says the same already, and stands."""
        if request.kind is OverrideKind.UNDO:
            known = self._undone_by.get(request.undoes)
            return None if known is None else self.get(known)
        number = self._said.get(fingerprint(request.kind, request.images, request.target))
        return None if number is None or number in self._undone_by else self.get(number)

    def check_undo(self, number: int) -> None:
        """Makes sure that there is an override to undo.

        Raises:
            BadInputError: There is none of this number, or it is an undo.
        """
        if not 1 <= number <= self.last:
            raise BadInputError(f"there is no override {number}")
        if self.get(number).kind is OverrideKind.UNDO:
            raise BadInputError(f"the override {number} is an undo: say again what it ended")

    def listed(self, after: int, limit: int, image_id: ImageId | None = None) -> Sequence[ListedOverride]:
        """At most `limit` overrides with numbers above `after`, in order; of one image those that name it."""
        numbers = self._numbers(after, image_id)
        return [self._listed(number) for number in islice(numbers, limit)]

    def _numbers(self, after: int, image_id: ImageId | None) -> Iterator[int]:
        if image_id is None:
            return iter(range(max(after, 0) + 1, self.last + 1))
        return (number for number in self._naming.get(image_id, ()) if number > after)

    def _listed(self, number: int) -> ListedOverride:
        return ListedOverride(self.get(number), self._undone_by.get(number), waits=number > self._applied)


def _named(override: Override) -> dict[ImageId, None]:
    return dict.fromkeys(override.images if override.target is None else (*override.images, override.target))
