"""The moments that a store can go back to, and where they lie in its history. Pure.

A moment is named by the last record of the order and the last override whose effects it has. So it means the same in a
store that is built again from the order, and it never lies within a write.

Nothing goes back before the end of a first load: that would leave nothing, or decide a billion images again.
"""

from __future__ import annotations

from collections.abc import Callable

from core.errors import BadInputError
from core.overrides import Point
from storage.interfaces import StoreView
from storage.records import HistoryEntry, StoreState

__all__ = ["AppliedAfter", "first_after", "latest_point", "point_at", "point_of"]

AppliedAfter = Callable[[int], int]
"""The position that an override of this number was applied after."""


def point_of(entry: HistoryEntry, applied_after: AppliedAfter) -> Point:
    """The moment at which an entry was decided: those of a bulk move are written later."""
    if entry.is_of_order:
        return Point(entry.offset, 0)
    return Point(applied_after(entry.reference), entry.reference)


def point_at(view: StoreView, number: int, applied_after: AppliedAfter) -> Point:
    """The moment of the write that a history entry belongs to.

    Args:
        view: The store.
        number: Of the entry; 0: before all of them.
        applied_after: Of the overrides of the store.

    Raises:
        BadInputError: There is no such entry, it is not kept any more, or it lies before the end of a first load.
    """
    load = view.first_load()
    if load is not None and number < load.last_number:
        raise BadInputError(
            f"the changes 1 to {load.last_number} are the first load of manifest {load.manifest_id}, and nothing goes "
            f"back before its end: choose change {load.last_number} or a later one"
        )
    if number == 0:
        return Point()
    entry = view.history_entry(number)
    if entry is None:
        state = view.state()
        raise BadInputError(f"there is no change {number}: {state.history_first} to {state.history_number} are kept")
    return point_of(entry, applied_after)


def latest_point(state: StoreState, applied_after: AppliedAfter) -> Point:
    """The present moment. The last history entry may be of an earlier one, since those of a bulk move are late."""
    offset, last = state.position.offset, state.overrides
    return Point(offset, last if last and applied_after(last) == offset else 0)


def first_after(view: StoreView, point: Point, applied_after: AppliedAfter) -> int:
    """The number of the first history entry that was decided after a moment.

    Entries of a bulk move from before may follow it, since they are written later.

    Raises:
        BadInputError: The history before it is not kept any more.
    """
    state = view.state()
    low, high = state.history_first, state.history_number + 1
    while low < high:
        middle = (low + high) // 2
        entry = view.history_entry(middle)
        if entry is not None and entry.offset >= point.position:
            high = middle
        else:
            low = middle + 1
    number = low
    for entry in view.history_from(low - 1):
        number = entry.number
        if point_of(entry, applied_after) > point:
            break
    else:
        number = state.history_number + 1
    if number == state.history_first > 1:
        raise BadInputError(f"the changes before {number} are not kept any more, so nothing can go back before it")
    return number
