"""The images that an override is about: those that it names, and those that it moved. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from core.overrides import Override
from core.types import ImageId, Trigger
from storage.interfaces import StoreView
from storage.records import HistoryEntry

__all__ = ["affected", "moves_are_kept"]


def affected(view: StoreView, override: Override) -> list[ImageId]:
    """The images of an override that are there, each once: those that it moved, then those that it names."""
    named = override.images if override.target is None else (*override.images, override.target)
    ids = dict.fromkeys([*_moved(view, override), *named])
    return [image_id for image_id in ids if view.image(image_id) is not None]


def moves_are_kept(view: StoreView, override: Override) -> bool:
    """Whether the history tells all that an override moved: it may be older than what is kept."""
    first = view.state().history_first
    kept = view.history_entry(first) if first > 1 else None
    return kept is None or kept.offset < override.applied_after


def _moved(view: StoreView, override: Override) -> Iterator[ImageId]:
    """What the history says, as far as it is kept.

    Positions never fall in it, so the first entry of one is found by halving.
    """
    position, state = override.applied_after, view.state()
    low, high = state.history_first - 1, state.history_number
    while low < high:
        middle = (low + high + 1) // 2
        entry = view.history_entry(middle)
        if entry is not None and entry.offset < position:
            low = middle
        else:
            high = middle - 1

    def is_near(entry: HistoryEntry) -> bool:
        return entry.offset <= position

    for entry in takewhile(is_near, view.history_from(low)):
        if entry.trigger is Trigger.OVERRIDE and entry.reference == override.number:
            yield entry.image_id
