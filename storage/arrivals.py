"""When the images that a store applied last had arrived: where to read again, once the log after them is lost."""

from __future__ import annotations

from storage.interfaces import StoreView

__all__ = ["earliest_arrival"]


def earliest_arrival(view: StoreView, entries: int) -> int:
    """The earliest arrival among the images of the last history entries, in ms since the epoch; 0 if there is none.

    Images are joined in another order than they arrive in while one partition is behind the others. So it is the
    earliest of many. Adopted images count too: they arrived even earlier.

    Args:
        view: The store.
        entries: How many entries to look at.
    """
    after = max(0, view.state().history_number - entries)
    return min((entry.arrived_at_ms for entry in view.history_from(after)), default=0)
