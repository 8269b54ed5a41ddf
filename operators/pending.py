"""The pending items of one micro-batching operator: in Flink state, mirrored in memory as far as is useful.

Items lie in map state under their sequence numbers and are read one by one, never scanned (a scan would walk over all
that was removed before). The `Progress` of the batcher lies beside them, written with every change, so a restored task
goes on where the checkpoint was taken. Keyed state can only be read while Flink works on a key: so nothing is read
before the first element or timer, by `resume`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from pyflink.datastream.state import MapState, ValueState

from operators.batcher import Attempt, Batcher, BatchPolicy

__all__ = ["PendingItems"]

Item = TypeVar("Item")


class PendingItems(Generic[Item]):
    """Items and the batcher that counts them, kept together."""

    def __init__(
        self, policy: BatchPolicy, items: MapState, progress: ValueState, size_of: Callable[[Item], int], now_ms: int
    ) -> None:
        """Reads what an earlier life of the task has left; the key must be set.

        Args:
            policy: How items are batched.
            items: Sequence number to item.
            progress: A `Progress`, or nothing.
            size_of: Bytes of an item.
            now_ms: What is pending is due then.
        """
        self._policy = policy
        self._items = items
        self._progress = progress
        self._size_of = size_of
        self._recent: dict[int, Item] = {}
        self.batcher = Batcher(policy, progress.value(), now_ms)

    def add(self, item: Item, now_ms: int) -> None:
        """Stores one more."""
        sequence = self.batcher.add(now_ms)
        self._items.put(sequence, item)
        if len(self._recent) < self._policy.max_items:
            self._recent[sequence] = item
        self.save()

    def read(self, attempt: Attempt) -> list[Item]:
        """The items of an attempt, at least one, as many as fit into a batch's bytes."""
        items: list[Item] = []
        room = self._policy.max_bytes
        for sequence in range(attempt.first, attempt.end):
            item = self._recent.get(sequence)
            if item is None:
                item = self._items.get(sequence)
                self._recent[sequence] = item
            room -= self._size_of(item)
            if items and room < 0:
                break
            items.append(item)
        return items

    def settle(self, attempt: Attempt, count: int, now_ms: int) -> None:
        """Forgets the first `count` items of an attempt."""
        for sequence in range(attempt.first, attempt.first + count):
            self._items.remove(sequence)
            self._recent.pop(sequence, None)
        self.batcher.settled(attempt, count, now_ms)
        self.save()

    def save(self) -> None:
        """Writes the batcher's progress."""
        self._progress.update(self.batcher.progress())
