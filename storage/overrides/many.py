"""Of images with very many forbidden ones: in which clusters these are. Pure.

A look-up cannot read a hundred thousand heads each time. They are read once, and again after one of them has moved.
What is known holds for every answer from the last such write on. A write is noted before anybody can see it; what is
not the stream's is known by the revision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from core.overrides import MAX_FORBIDDEN
from core.types import NO_OFFSET, ImageId, ImageRules, Lookup
from storage.overrides.rules import Rules
from storage.records import Heads, HistoryEntry, StoreState

__all__ = ["ManyForbidden", "has_many"]


def has_many(rules: ImageRules) -> bool:
    """Whether so many images are forbidden that no look-up reads all their heads."""
    return len(rules.forbidden) > MAX_FORBIDDEN


class _Known(NamedTuple):
    offset: int
    revision: int
    forbidden: tuple[ImageId, ...]
    ids: frozenset[ImageId]
    """The forbidden images once more."""
    by_head: Mapping[ImageId, Sequence[ImageId]]


class ManyForbidden:
    """What is known of the images that have many. One thread writes, any number read."""

    def __init__(self) -> None:
        self._known: dict[ImageId, _Known] = {}
        self._moved = NO_OFFSET
        """The position of the last write that moved a forbidden image of one of them."""

    def before_write(self, state: StoreState, history: Iterable[HistoryEntry], rules: Rules) -> None:
        """The store is about to write a state and the history that leads to it."""
        if any(each.old_head != each.new_head and _matters(each.image_id, rules) for each in history):
            self._moved = state.position.offset

    def before_bulk_move(self, state: StoreState) -> None:
        """The store is about to write a state that shows more moves than its history tells."""
        self._moved = state.position.offset

    def met(
        self,
        image_id: ImageId,
        forbidden: tuple[ImageId, ...],
        lookup: Lookup,
        asked: Mapping[ImageId, None],
        clusters: Collection[ImageId],
        heads_of: Callable[[Iterable[ImageId]], Heads],
    ) -> tuple[ImageId, ...]:
        """The forbidden images that an answer needs.

        That is each one that was asked for, since it may move by an earlier verdict of the same batch. The others stay,
        so one stands for all of a cluster. And a deleted image may name a cluster.

        Args:
            image_id: An image with many.
            forbidden: The images that it must not meet.
            lookup: The answer without rules.
            asked: The images that were asked for.
            clusters: The heads whose clusters the image may come into.
            heads_of: Reads heads, as of the answer.
        """
        known = self._of(image_id, forbidden, lookup, heads_of)
        found = {each: None for each in (*asked, *clusters) if each in known.ids}
        for head in clusters:
            first = next((each for each in known.by_head.get(head, ()) if each not in asked), None)
            if first is not None:
                found[first] = None
        return tuple(found)

    def _of(
        self,
        image_id: ImageId,
        forbidden: tuple[ImageId, ...],
        lookup: Lookup,
        heads_of: Callable[[Iterable[ImageId]], Heads],
    ) -> _Known:
        offset, revision = lookup.position.offset, lookup.revision
        known = self._known.get(image_id)
        moved = self._moved  # read last: whoever knows of a later write has noted it before
        if (
            known is not None
            and known.forbidden is forbidden
            and known.revision == revision
            and min(known.offset, offset) >= moved
        ):
            return known
        by_head = defaultdict[ImageId, list[ImageId]](list)
        heads = heads_of(forbidden).heads
        for each in forbidden:
            if each in heads:
                by_head[heads[each]].append(each)
        known = _Known(offset, revision, forbidden, frozenset(forbidden), by_head)
        others = {each: other for each, other in self._known.copy().items() if other.revision == revision}
        self._known = {**others, image_id: known}
        return known


def _matters(image_id: ImageId, rules: Rules) -> bool:
    return any(has_many(rules.of(other)) for other in rules.of(image_id).forbidden)
