"""The pending records of one micro-batching operator: in Flink state, mirrored in memory as far as is useful.

What comes in one element is one *chunk*: an `InFlightBatch` in map state, under the sequence number of its first
record. Chunks are read one by one, never scanned: a scan would walk over all that was removed before. A `BatchState`
lies beside them. It names the oldest chunk, and where the newest one ends; the others are found by asking for each next
one. Both have a checksum (`operators.sealed_state`), and the chunks must lead to the end that is named.

A checkpoint may come between two elements or timers, never within one. So a record that is settled while its own
element is processed is never written to the state, and `flush` writes the rest at the end. Keyed state can only be read
while Flink works on a key, so nothing is read before the first element or timer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError
from pyflink.datastream.state import MapState, ValueState

from core.dead_letters import BadRecord, Reason
from operators.batcher import Attempt, Batcher, BatchPolicy, Progress
from operators.in_flight_pb2 import BatchState, InFlightBatch, IsolatedItem
from operators.sealed_state import StateDamagedError, seal, unseal

__all__ = ["PendingItems"]

_PROGRESS = "the progress of a batch"

_Message = TypeVar("_Message", BatchState, InFlightBatch)


class PendingItems:
    """Serialised `InFlight` records and the batcher that counts them, kept together."""

    def __init__(self, policy: BatchPolicy, chunks: MapState, saved: ValueState, now_ms: int) -> None:
        """Reads what an earlier life of the task has left; the key must be set.

        Args:
            policy: How records are batched.
            chunks: From the sequence number of its first record to a sealed `InFlightBatch`.
            saved: A sealed `BatchState`, or nothing.
            now_ms: Milliseconds since the epoch; what is pending is due then.

        Raises:
            StateDamagedError: One is missing, or is not what was written.
        """
        self._policy = policy
        self._chunks = chunks
        self._saved = saved
        self._recent: dict[int, Sequence[bytes]] = {}
        self._unstored: dict[int, Sequence[bytes]] = {}
        written = saved.value()
        if written is None and not chunks.is_empty():
            raise StateDamagedError(_PROGRESS, "it is missing, and there are chunks of waiting records")
        self._written: bytes | None = written or b""
        state = BatchState() if written is None else _parsed(BatchState, written, _PROGRESS)
        self._oldest = state.oldest
        self.batcher = Batcher(policy, _progress(state, self._end_of_chunks()), now_ms)

    def add(self, items: Sequence[bytes], now_ms: int) -> int:
        """Takes what came in one element: at least one record. Returns the sequence number of the first."""
        first = self.batcher.add(now_ms, len(items))
        self._unstored[first] = items
        return first

    def read(self, attempt: Attempt) -> list[bytes]:
        """The records of an attempt, at least one, as many as fit into a batch's bytes."""
        items: list[bytes] = []
        room = self._policy.max_bytes
        for item in self._items(attempt):
            room -= len(item)
            if items and room < 0:
                break
            items.append(item)
        return items

    def settle(self, attempt: Attempt, count: int, now_ms: int, took_ms: int = 0) -> None:
        """Forgets the first `count` records of an attempt, whose call took so long."""
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
            self._chunks.put(first, seal(InFlightBatch(records=items).SerializeToString()))
            if len(self._recent) < self._policy.max_items:
                self._recent[first] = items
        self._unstored.clear()
        # Without a chunk nothing refers to the saved state. But one that names a chunk which is gone must be replaced.
        if self.batcher.pending or self._written is None:
            now = seal(_state(self._oldest, self.batcher.progress()).SerializeToString())
            if now != self._written:
                self._saved.update(now)
                self._written = now

    def _items(self, attempt: Attempt) -> Sequence[bytes]:
        """The attempt begins at the head, which lies in the oldest chunk."""
        items: list[bytes] = []
        end = self._oldest
        while end < attempt.end:
            chunk = self._chunk(end)
            items += chunk
            end += len(chunk)
        return items[attempt.first - self._oldest : attempt.end - self._oldest]

    def _chunk(self, first: int) -> Sequence[bytes]:
        chunk = self._unstored.get(first) or self._recent.get(first)
        if chunk is None:
            chunk = self._recent[first] = _stored(self._chunks.get(first), first)
        return chunk

    def _end_of_chunks(self) -> int:
        end = self._oldest
        while (chunk := self._chunks.get(end)) is not None:
            end += len(_stored(chunk, end))
        return end


def _stored(chunk: bytes | None, first: int) -> list[bytes]:
    what = f"the chunk of waiting records that begins at {first}"
    if chunk is None:
        raise StateDamagedError(what, "it is missing")
    stored = list(_parsed(InFlightBatch, chunk, what).records)
    if not stored:
        raise StateDamagedError(what, "it is empty")
    return stored


def _parsed(kind: type[_Message], sealed: bytes, what: str) -> _Message:
    try:
        return kind.FromString(unseal(sealed, what))
    except DecodeError as error:
        raise StateDamagedError(what, str(error)) from error


def _state(oldest: int, progress: Progress) -> BatchState:
    return BatchState(
        oldest=oldest,
        head=progress.head,
        tail=progress.tail,
        faults=progress.faults,
        timeouts=progress.timeouts,
        ends=progress.ends,
        isolated=[
            IsolatedItem(sequence=sequence, reason=bad.reason, detail=bad.detail)
            for sequence, bad in sorted(progress.isolated.items())
        ],
    )


def _progress(state: BatchState, end: int) -> Progress:
    """What was saved, after a check against where the chunks end.

    Raises:
        StateDamagedError: They do not fit together, or the reason of an item is unknown.
    """
    tail = state.tail if state.HasField("tail") else end  # earlier versions did not save it
    if not state.oldest <= state.head <= tail or tail != end:
        raise StateDamagedError(
            _PROGRESS, f"records {state.head} to {tail} wait, but the chunks hold {state.oldest} to {end}"
        )
    try:
        isolated = {each.sequence: BadRecord(Reason(each.reason), each.detail) for each in state.isolated}
    except ValueError as error:
        raise StateDamagedError(_PROGRESS, str(error)) from error
    return Progress(state.head, tail, state.faults, state.timeouts, tuple(state.ends), isolated)
