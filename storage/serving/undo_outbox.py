"""Asks for images to be decided again: forced requests in the topic `replay`, at least once.

An undo ends a rule and moves nothing: what the stream says without it comes from new verdicts. So do the heads of
images that came after the moment that a rollback goes back to. The store keeps up to which override the requests were
sent. One that is sent twice is decided twice, with the same verdict.

The images of a bulk move are known once all its records are rewritten, so its undo waits for that. They may be
millions: they are read and sent bit by bit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice

from core.overrides import NewImages, Override, OverrideKind
from core.replay_requests import Lane, ReplayRequest, encode_request
from core.types import ImageId
from storage.bulk.operations import Operation, OperationState
from storage.interfaces import ClusterStore, StoreView
from storage.operation_pages import operation_of_override
from storage.overrides.affected import affected, moves_are_kept
from storage.rollback.changed import new_images
from storage.serving.assignments import HEADERS, Message
from storage.serving.publish_loop import LoopTimes, PublishLoop
from storage.serving.sender import Connection, Sender

__all__ = ["UndoOutbox"]

log = logging.getLogger(__name__)

REPLAY_KIND = "replay"

NAMED_LIMIT = 100
"""More images than this wait behind those that somebody named."""

CHUNK = 1_000
"""Overrides that are looked at, and requests that are sent, at once."""


class UndoOutbox:
    """The loop, on its own thread between `start` and `stop`."""

    def __init__(
        self,
        store: ClusterStore,
        open_sender: Callable[[Lane], Sender],
        require_kinds: Callable[[Collection[str]], None],
        failed: Callable[[], None],
        pause_s: float = 0.5,
    ) -> None:
        """Prepares the loop.

        Args:
            store: Has the overrides.
            open_sender: Connects to a lane of the topic, or raises `UnavailableError`.
            require_kinds: Storage's; raises `MismatchError` if the job that wrote last does not know a kind.
            failed: Told of each attempt that failed and will be tried again.
            pause_s: Between two looks, and between two attempts.
        """
        self._store = store
        self._connections = {lane: Connection(partial(open_sender, lane)) for lane in Lane}
        self._require_kinds = require_kinds
        self._looked_at = store.state().requeued
        self._loop = PublishLoop(
            "undo-outbox",
            self.publish_available,
            failed,
            lambda: f"waits after the override {self._looked_at}",
            self._end,
            LoopTimes(pause_s, 10 * pause_s, pause_s),
        )
        store.on_apply(lambda state: self._loop.wake())

    def start(self) -> None:
        """Starts the loop."""
        self._loop.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the loop after the current chunk, or after `timeout_s` seconds."""
        self._loop.stop(timeout_s)

    def publish_available(self) -> int:
        """Sends the requests of the overrides after the last one; returns how many overrides it is done with.

        One whose bulk move is under way holds up those after it.

        Raises:
            UnavailableError: Sending failed, or the store cannot be read or written. Try again later.
            MismatchError: The job that wrote last does not know replays.
        """
        applied = self._store.state().overrides
        found = [each for each in self._store.overrides(self._looked_at, CHUNK) if each.override.number <= applied]
        for at, each in enumerate(found):
            again = each.override.kind in (OverrideKind.UNDO, OverrideKind.ROLLBACK)
            if again and not self._decide_again(each.override):
                return at
            self._looked_at = each.override.number
        return len(found)

    def _decide_again(self, override: Override) -> bool:
        """Sends the requests of an override; False: not all, because a bulk move is under way or the loop stops."""
        operation = self._operation(override.undoes)
        if operation is not None and operation.state is not OperationState.DONE:
            return False
        with self._store.snapshot() as view:
            count = self._send_all(override, iter(self._images(view, override, operation)))
        if count is None:
            return False
        self._store.set_requeued(override.number)
        log.info("override %d, %s: %d images are decided again", override.number, override.kind, count)
        return True

    def _operation(self, number: int) -> Operation | None:
        """The bulk move of an override that is undone."""
        return operation_of_override(self._store.operations, number) if number else None

    def _send_all(self, override: Override, images: Iterator[ImageId]) -> int | None:
        """Sends a request for each image; returns how many these are. None: the loop stops, and not all are sent."""
        named = list(islice(images, NAMED_LIMIT + 1))
        lane = Lane.BULK if len(named) > NAMED_LIMIT else Lane.NAMED
        if named:
            self._require_kinds((REPLAY_KIND,))
        count, left = 0, chain(named, images)
        while some := list(islice(left, CHUNK)):
            if self._loop.stopping():
                return None
            messages = [_message(override, each, lane) for each in some]
            self._connections[lane].use(partial(self._send, messages))
            count += len(some)
        return count

    def _images(self, view: StoreView, override: Override, operation: Operation | None) -> Iterable[ImageId]:
        """Those that an undo or a rollback wants to be decided again. The undo of a rollback brings back verdicts."""
        if override.kind is OverrideKind.UNDO:
            undone = self._override(override.undoes)
            return () if override.rollback is not None else self._affected(view, undone, operation)
        if override.rollback is None or override.rollback.new is NewImages.KEEP:
            return ()
        return new_images(view, override.rollback, override.number, lambda each: self._override(each).applied_after)

    def _affected(self, view: StoreView, undone: Override, operation: Operation | None) -> Iterator[ImageId]:
        if not moves_are_kept(view, undone, operation):
            log.warning(
                "the history of the override %d is not kept: only images that it names are decided again", undone.number
            )
        return affected(view, undone, operation)

    def _override(self, number: int) -> Override:
        (found,) = self._store.overrides(number - 1, 1)
        return found.override

    def _send(self, messages: Sequence[Message], sender: Sender) -> Sequence[int]:
        return sender.send(messages, self._loop.stopping)

    def _end(self) -> None:
        for connection in self._connections.values():
            connection.close()


def _message(override: Override, image_id: ImageId, lane: Lane) -> Message:
    undoes = override.kind is OverrideKind.UNDO
    request = ReplayRequest(
        f"undo-{override.undoes}" if undoes else f"rollback-{override.number}",
        image_id,
        force=True,
        bulk=lane is Lane.BULK,
        requested_at_ms=override.at_ms,
        author=override.author[:256],
    )
    return Message(override.number, image_id.encode(), encode_request(request), HEADERS)
