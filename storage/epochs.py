"""The epochs of a store: a new one for a store that is new, restored, or was overtaken by another store."""

from __future__ import annotations

from storage.records import StoreEpoch

__all__ = ["is_newer", "new_epoch"]


def new_epoch(now_ms: int, highest_ms: int, store_id: str, published: int = 0) -> StoreEpoch:
    """The epoch that a store begins now.

    Args:
        now_ms: Milliseconds since 1970.
        highest_ms: The highest epoch that was published to `assignments`; 0: none.
        store_id: A random id.
        published: The number of the last entry that is not published in it: by release 0.1 it was published without
            an epoch, or it is not kept any more; else 0.
    """
    return StoreEpoch(max(now_ms, highest_ms + 1), store_id, published + 1)


def is_newer(one: StoreEpoch, other: StoreEpoch) -> bool:
    """Whether another store than `other` has published later: its epoch is higher, or is as high with another id."""
    return (one.created_ms, one.store_id) != (other.created_ms, other.store_id) and one.created_ms >= other.created_ms
