"""The pending items of one micro-batching operator: in Flink state, mirrored in memory as far as is useful.

What comes in one element is one *chunk*: a list of items in map state, under the sequence number of its first. Chunks
are read one by one, never scanned (a scan would walk over all that was removed before). `PendingState` lies beside
them, and which chunks followed is found by asking for each next one.

Between two elements or timers a checkpoint may come, within one it cannot: so what is settled by the very element that
brought it never reaches the state, and `flush` writes the rest at the end. Keyed state can only be read while Flink
works on a key: so nothing is read before the first element or timer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pyflink.datastream.state import MapState, ValueState

from operators.batcher import Attempt, Batcher, BatchPolicy, Progress

__all__ = ["PendingItems", "PendingState"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class PendingState:
    """What must survive a restart, beside the chunks."""

    oldest: int
    """Where the oldest chunk that is still stored begins."""
    progress: Progress
    """Without its `tail`, which the chunks tell."""


class PendingItems(Generic[Item]):
    """Items and the batcher that counts them, kept together."""

    def __init__(
        self, policy: BatchPolicy, chunks: MapState, saved: ValueState, size_of: Callable[[Item], int], now_ms: int
    ) -> None:
        """Reads what an earlier life of the task has left; the key must be set.

        Args:
            policy: How items are batched.
            chunks: First sequence number to items.
            saved: A `PendingState`, or nothing.
            size_of: Bytes of an item.
            now_ms: What is pending is due then.
        """
        self._policy = policy
        self._chunks = chunks
        self._saved = saved
        self._size_of = size_of
        self._recent: dict[int, Sequence[Item]] = {}
        self._unstored: dict[int, Sequence[Item]] = {}
        left: PendingState = saved.value() or PendingState(0, Progress())
        self._written: PendingState | None = left
        self._oldest = left.oldest
        self.batcher = Batcher(policy, replace(left.progress, tail=self._end_of_chunks()), now_ms)

    def add(self, items: Sequence[Item], now_ms: int) -> None:
        """Takes what came in one element: at least one item."""
        self._unstored[self.batcher.add(now_ms, len(items))] = items

    def read(self, attempt: Attempt) -> list[Item]:
        """The items of an attempt, at least one, as many as fit into a batch's bytes."""
        items: list[Item] = []
        room = self._policy.max_bytes
        for item in self._items(attempt):
            room -= self._size_of(item)
            if items and room < 0:
                break
            items.append(item)
        return items

    def settle(self, attempt: Attempt, count: int, now_ms: int, took_ms: int = 0) -> None:
        """Forgets the first `count` items of an attempt, whose call took so long."""
        self.batcher.settled(attempt, count, now_ms, took_ms)
        while self._oldest < self.batcher.head:
            end = self._oldest + len(self._chunk(self._oldest))
            if end > self.batcher.head:
                break
            if self._unstored.pop(self._oldest, None) is None:
                self._chunks.remove(self._oldest)
                self._recent.pop(self._oldest, None)
                self._written = None
            self._oldest = end

    def flush(self) -> None:
        """Writes what must survive a restart, if it changed; to be called at the end of each element and timer."""
        for first, items in self._unstored.items():
            self._chunks.put(first, list(items))
            if len(self._recent) < self._policy.max_items:
                self._recent[first] = items
        self._unstored.clear()
        # Without a chunk nothing refers to the saved; one that named a chunk which is gone must not stay.
        if self.batcher.pending or self._written is None:
            now = PendingState(self._oldest, replace(self.batcher.progress(), tail=0))
            if now != self._written:
                self._saved.update(now)
                self._written = now

    def _items(self, attempt: Attempt) -> Sequence[Item]:
        """The attempt begins at the head, which lies in the oldest chunk."""
        items: list[Item] = []
        end = self._oldest
        while end < attempt.end:
            chunk = self._chunk(end)
            items += chunk
            end += len(chunk)
        return items[attempt.first - self._oldest : attempt.end - self._oldest]

    def _chunk(self, first: int) -> Sequence[Item]:
        chunk = self._unstored.get(first) or self._recent.get(first)
        if chunk is None:
            chunk = self._recent[first] = self._chunks.get(first)
        return chunk

    def _end_of_chunks(self) -> int:
        end = self._oldest
        while (chunk := self._chunks.get(end)) is not None:
            end += len(chunk)
        return end
