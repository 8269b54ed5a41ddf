"""A split or a forbid that moves more images than one write can carry. Pure.

The moves are found as for one write (`storage.overrides.moves`). Only where each image goes is kept of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from core.overrides import Override
from core.types import Cause, ImageId
from storage.interfaces import StoreView
from storage.moving import PlannedMove, StagedMoves
from storage.overrides.moves import part_images
from storage.overrides.rules import Rules
from storage.records import ImageRecord
from storage.rollback.wish_plan import WishPlan

__all__ = ["PartingPlan"]


class PartingPlan(WishPlan):
    """The moves of a split or a forbid: images that leave, and those that follow them, by name."""

    def __init__(self, view: StoreView, rules: Rules, override: Override, *, again: bool) -> None:
        """Finds the moves.

        Args:
            view: The store.
            rules: Of the overrides that stand, this one included.
            override: A split or a forbid.
            again: It was said before; whatever it can no longer move is left out.

        Raises:
            ConflictError: An image is pinned to one that stays; the message names the override.
        """
        placed = _Placed(view)
        part_images(placed, view, rules, override, again=again)
        self._places = placed.places
        super().__init__(view, rules, override, {image_id: each.head for image_id, each in placed.places.items()})

    def moves(self) -> Iterator[PlannedMove]:
        """The moves, those of the new heads before those that follow them. Each image moves once."""
        names: dict[ImageId, ImageId] = {}  # most go for the same image
        for image_id, (head, cause, target) in self._places.items():
            image = self._view.image(image_id)
            assert image is not None  # it was there when the moves were found
            if target not in names:
                names[target] = self._name(target)
            yield PlannedMove(image, self._said(image, head, cause, names[target]))

    def _name(self, image_id: ImageId) -> ImageId:
        """What a record may say for an image: if it was forgotten, its pseudonym."""
        if self._view.image(image_id) is not None:
            return image_id
        return StagedMoves(self._view, self._view.state()).tombstone_name(image_id)


class _Place(NamedTuple):
    head: ImageId
    cause: Cause
    matched: ImageId


class _Placed:
    """Where images go, so far."""

    def __init__(self, view: StoreView) -> None:
        self._view = view
        self.places: dict[ImageId, _Place] = {}

    def image(self, image_id: ImageId) -> ImageRecord | None:
        image, place = self._view.image(image_id), self.places.get(image_id)
        return image if image is None or place is None else replace(image, head=place.head)

    def override(self, override: Override, image: ImageRecord, head: ImageId, cause: Cause, matched: ImageId) -> None:
        self.places[image.image_id] = _Place(head, cause, matched)
