"""The images that an override is about: those that it names, and those that it moved. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from core.overrides import Override
from core.types import ImageId, Trigger
from storage.interfaces import StoreView
from storage.records import HistoryEntry

__all__ = ["affected"]


def affected(view: StoreView, override: Override) -> list[ImageId]:
    """The images of an override that are there, each once: those that it moved, then those that it names."""
    named = override.images if override.target is None else (*override.images, override.target)
    ids = dict.fromkeys([*_moved(view, override), *named])
    return [image_id for image_id in ids if view.image(image_id) is not None]


def _moved(view: StoreView, override: Override) -> Iterator[ImageId]:
    """What the history says. Positions never fall in it, so the first entry of one is found by halving."""
    position = override.applied_after
    low, high = 0, view.state().history_number
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
