"""Rewrites the records of a bulk move, a little at a time.

Readers see the whole move from its first step, so nobody waits for the loop but the next bulk move. It rewrites some
records in one synced write, with pauses between, so that the writes of the stream wait little. What a kill interrupts
goes on at the next start, since the store keeps how far it is.
"""

from __future__ import annotations

from typing import Protocol

from storage.bulk.operations import Operation, OperationState
from storage.interfaces import ClusterStore
from storage.serving.publish_loop import LoopTimes, PublishLoop

__all__ = ["MoveListener", "MoveLoop"]

CHUNK = 250
"""Records of one write."""

PAUSE_S = 0.05
"""Between two writes: a million images take some four minutes."""

LOOK_S = 1.0
"""Between two looks when nothing moves. A move that goes on after a rest wakes nobody."""

AT_ONCE = 100
"""Bulk moves that are over and read at a time."""


class MoveListener(Protocol):
    """Is told of progress: metrics."""

    def moving(self, images: int, moved: int) -> None:
        """So many images has the bulk move under way, and so many of them are rewritten; 0 and 0: none is under way."""
        ...

    def move_failed(self) -> None:
        """An attempt failed and will be made again."""
        ...


class MoveLoop:
    """The loop, on its own thread between `start` and `stop`."""

    def __init__(self, store: ClusterStore, listener: MoveListener, pause_s: float = PAUSE_S) -> None:
        """Prepares the loop.

        Args:
            store: Has the bulk moves.
            listener: Is told of progress.
            pause_s: Between two writes.
        """
        self._store = store
        self._listener = listener
        self._over = 0
        """All bulk moves up to this number are over."""
        self._loop = PublishLoop(
            "bulk-moves",
            self._look,
            listener.move_failed,
            lambda: "waits within a bulk move",
            lambda: None,
            LoopTimes(LOOK_S, 10 * LOOK_S, pause_s, LOOK_S),
            doing="rewriting",
        )
        store.on_apply(lambda state: self._loop.wake())

    def start(self) -> None:
        """Starts the loop."""
        self._loop.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the loop after the current write, or after `timeout_s` seconds."""
        self._loop.stop(timeout_s)

    def settle(self) -> bool:
        """Rewrites some records of the bulk move under way, unless it rests; returns whether more is left.

        Raises:
            StorageError: The store cannot be read, or the disk refuses the write. Try again later.
            UnavailableError: The store is being opened again. Try again later.
        """
        operation = self._tell()
        if operation is None or operation.state is not OperationState.MOVING:
            return False
        more = self._store.settle(CHUNK)
        self._tell()
        return more

    def _tell(self) -> Operation | None:
        """Tells how far the bulk move under way is; returns it."""
        operation = self._under_way()
        images, moved = (0, 0) if operation is None else (operation.total, operation.moved)
        self._listener.moving(images, moved)
        return operation

    def _under_way(self) -> Operation | None:
        """The bulk move that is not over; None: there is none."""
        while found := self._store.operations(self._over, AT_ONCE):
            for each in found:
                if each.state is not OperationState.DONE:
                    return each
                self._over = each.number
        return None

    def _look(self) -> bool:
        """Settles, and makes the loop come back after a pause if more is left."""
        if self.settle():
            self._loop.wake()
        return False
