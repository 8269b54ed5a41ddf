"""Asks for images to be decided again: forced requests in the topic `replay`, at least once.

An undo ends a rule and moves nothing: what the stream says without it comes from new verdicts. So do the heads of
images that came after the moment that a rollback goes back to. The store keeps up to which override the requests were
sent. One that is sent twice is decided twice, with the same verdict.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial

from core.overrides import NewImages, Override, OverrideKind
from core.replay_requests import Lane, ReplayRequest, encode_request
from core.types import ImageId
from storage.interfaces import ClusterStore, StoreView
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
        """Sends the requests of the overrides after the last one; returns how many overrides it has looked at.

        Raises:
            UnavailableError: Sending failed, or the store cannot be read or written. Try again later.
            MismatchError: The job that wrote last does not know replays.
        """
        applied = self._store.state().overrides
        found = [each for each in self._store.overrides(self._looked_at, CHUNK) if each.override.number <= applied]
        for each in found:
            if each.override.kind in (OverrideKind.UNDO, OverrideKind.ROLLBACK):
                self._decide_again(each.override)
            self._looked_at = each.override.number
        return len(found)

    def _decide_again(self, override: Override) -> None:
        with self._store.snapshot() as view:
            images = self._images(view, override)
        lane = Lane.BULK if len(images) > NAMED_LIMIT else Lane.NAMED
        if images:
            self._require_kinds((REPLAY_KIND,))
        for at in range(0, len(images), CHUNK):
            messages = [_message(override, each, lane) for each in images[at : at + CHUNK]]
            self._connections[lane].use(partial(self._send, messages))
        self._store.set_requeued(override.number)
        log.info("override %d, %s: %d images are decided again", override.number, override.kind, len(images))

    def _images(self, view: StoreView, override: Override) -> list[ImageId]:
        """Those that an undo or a rollback wants to be decided again. The undo of a rollback brings back verdicts."""
        if override.kind is OverrideKind.UNDO:
            return [] if override.rollback is not None else self._affected(view, self._override(override.undoes))
        if override.rollback is None or override.rollback.new is NewImages.KEEP:
            return []
        return list(
            new_images(view, override.rollback, override.number, lambda each: self._override(each).applied_after)
        )

    def _affected(self, view: StoreView, undone: Override) -> list[ImageId]:
        if not moves_are_kept(view, undone):
            log.warning(
                "the history of the override %d is not kept: only images that it names are decided again", undone.number
            )
        return affected(view, undone)

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
