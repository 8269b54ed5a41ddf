"""Which images a replay is about. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from core.errors import BadInputError
from core.types import Cause, ImageId
from storage.selecting import ImageSelection
from stream.dead_letters.choice import DeadLetterChoice

__all__ = ["NAMED_LIMIT", "ReplaySelection", "causes_of"]

NAMED_LIMIT = 100
"""More images than this count as a selection, so they wait behind those that somebody named."""


@dataclass(frozen=True, slots=True)
class ReplaySelection:
    """One way of choosing images.

    Raises:
        BadInputError: There is none, or there are several.
    """

    ids: Sequence[ImageId] = ()
    """Named images."""
    stored: ImageSelection | None = None
    """By cluster, time and cause of their last verdicts."""
    dead_letters: DeadLetterChoice | None = None
    """Those of these dead letters that a server refused or failed on."""

    def __post_init__(self) -> None:
        chosen = sum((bool(self.ids), self.stored is not None, self.dead_letters is not None))
        if chosen != 1:
            ways = "images (--id, --ids-file), stored ones (--head, --since, --until, --cause), or --dead-letters"
            raise BadInputError(f"choose {ways}" + ("" if not chosen else ": only one of these"))

    @property
    def bulk(self) -> bool:
        """Whether it belongs into the lane of selections."""
        return len(self.ids) > NAMED_LIMIT or not self.ids


def causes_of(words: Collection[str]) -> frozenset[Cause]:
    """The causes that words name.

    Raises:
        BadInputError: There is no such cause of an image that is there.
    """
    known = [cause for cause in Cause if cause not in (Cause.DELETED, Cause.FORGOTTEN)]
    for word in words:
        if word not in known:
            raise BadInputError(f"there is no cause {word!r}: choose from {', '.join(known)}")
    return frozenset(map(Cause, words))
