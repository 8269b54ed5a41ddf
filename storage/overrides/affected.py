"""The images that an override is about: those that it names, and those that it moved. Pure.

A bulk move writes its history entries after the override was applied, among those of the stream. So they are looked for
from its first one on, once all of them are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, takewhile

from core.overrides import Override
from core.types import ImageId, Trigger
from storage.bulk.operations import Operation
from storage.interfaces import StoreView
from storage.records import HistoryEntry

__all__ = ["affected", "moves_are_kept"]


def affected(view: StoreView, override: Override, operation: Operation | None = None) -> Iterator[ImageId]:
    """The images of an override that are there, each once: those that it moved, then those that it names.

    Args:
        view: The store.
        override: It was applied.
        operation: Its bulk move, which is done; None: it moved its images in one write.
    """
    named = dict.fromkeys(override.images if override.target is None else (*override.images, override.target))
    for image_id in _moved(view, override, operation):
        named.pop(image_id, None)
        if view.image(image_id) is not None:
            yield image_id
    for image_id in named:
        if view.image(image_id) is not None:
            yield image_id


def moves_are_kept(view: StoreView, override: Override, operation: Operation | None = None) -> bool:
    """Whether the history tells all that an override moved: it may be older than what is kept."""
    first = view.state().history_first
    if operation is not None:
        return first <= operation.first
    kept = view.history_entry(first) if first > 1 else None
    return kept is None or kept.offset < override.applied_after


def _moved(view: StoreView, override: Override, operation: Operation | None) -> Iterator[ImageId]:
    """What the history says, as far as it is kept. An override moves an image once."""
    entries = _at_once(view, override.applied_after) if operation is None else _in_bulk(view, operation)
    moved = (
        entry.image_id for entry in entries if entry.trigger is Trigger.OVERRIDE and entry.reference == override.number
    )
    return islice(moved, None if operation is None else operation.total)


def _at_once(view: StoreView, position: int) -> Iterator[HistoryEntry]:
    """The entries of a position. Positions never fall in the history, so the first of one is found by halving."""
    state = view.state()
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

    return takewhile(is_near, view.history_from(low))


def _in_bulk(view: StoreView, operation: Operation) -> Iterator[HistoryEntry]:
    """The entries from the first of a bulk move to its last.

    Where the first ones are not kept, the others are too few to know the last by their number. Then it is known by the
    time at which the move ended, lest all of the history is read.
    """
    after = operation.first - 1
    if view.state().history_first <= operation.first or operation.ended_ms is None:
        return view.history_from(after)
    last = view.moment(operation.ended_ms // 1000) or 0
    return takewhile(lambda entry: entry.number <= last, view.history_from(after))
