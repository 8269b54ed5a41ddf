"""The outbox: publishes the history entries in order, at least once, from a stored position.

A loop reads the entries after the position, sends them in chunks, and stores the new position now and then, once a
whole chunk is acknowledged. A write to the store wakes the loop. When sending fails, it warns once, waits, and resumes
after the last acknowledged entry. No entry is skipped; a chunk may be sent twice.

A broker may lose what it has acknowledged. So the store also keeps where the last acknowledged message lies. With each
new sender, and now and then while nothing is sent, the topic must have that message there. If it has not, all after
what is provably there is sent again, in order (`storage.serving.topic_loss`).

Numbers begin again with a new or a restored store. So each store publishes in an epoch of its own, which begins when
the first sender is opened. A store that finds messages of a later epoch was put back: it begins another epoch, and
publishes all of its history again.

Where old history was swept, an epoch begins with the first entry that is kept. Entries that the topic lost and the
store does not keep cannot be sent again: the log says which.

What a store was loaded with before its first record is one message (`storage.serving.assignments`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Protocol

from core.errors import NeardupError
from storage.epochs import is_newer, new_epoch
from storage.interfaces import ClusterStore
from storage.records import PublishedMark, StoreEpoch, StoreState
from storage.serving.assignments import Message, load_message, message_of
from storage.serving.publish_loop import LoopTimes, PublishLoop
from storage.serving.sender import Connection, Sender
from storage.serving.topic_loss import NOTHING_KEPT, Kept, LastMessage, find_kept, last_in

__all__ = ["Outbox", "OutboxListener", "OutboxSettings"]

log = logging.getLogger(__name__)


class OutboxListener(Protocol):
    """Is told of progress and failures: metrics."""

    def published(self, number: int) -> None:
        """All entries up to `number` are acknowledged."""
        ...

    def publish_failed(self) -> None:
        """An attempt failed and will be tried again."""
        ...


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """Sizes and waits of the loop."""

    chunk_entries: int = 500
    chunk_bytes: int = 262_144
    """A chunk ends with the entry that reaches this size. It must fit into one request of the sender."""
    backoff_first_s: float = 0.1
    backoff_max_s: float = 1.0
    store_every_s: float = 1.0
    """The position is stored so often at most, because each time is a sync of the disk."""
    look_every_s: float = 30.0
    """While nothing is sent, the topic is looked at so often: an idle connection does not show a loss."""


class Outbox:
    """The loop, on its own thread between `start` and `stop`."""

    def __init__(
        self,
        store: ClusterStore,
        open_sender: Callable[[], Sender],
        listener: OutboxListener,
        settings: OutboxSettings | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares the loop.

        Args:
            store: Has the history and the position.
            open_sender: Connects, or raises `UnavailableError`.
            listener: Is told of progress and failures.
            settings: Sizes and waits.
            now_ms: Milliseconds since 1970.
            clock: Seconds that only grow.
        """
        self._now_ms = now_ms
        self._clock = clock
        self._store = store
        self._connection = Connection(open_sender)
        self._listener = listener
        self._settings = settings or OutboxSettings()
        self._epoch = store.epoch()
        self._published = self._stored = store.published()
        self._mark = store.published_mark()
        self._load = store.first_load()
        self._run = _Run()
        self._stored_at = self._looked_at = -math.inf
        self._loop = PublishLoop(
            "outbox",
            self.publish_available,
            listener.publish_failed,
            lambda: f"waits after history entry {self._published}",
            self._end,
            LoopTimes(
                self._settings.backoff_first_s, self._settings.backoff_max_s, idle_s=self._settings.store_every_s
            ),
        )
        store.on_apply(self._wake)

    def start(self) -> None:
        """Starts the loop at the stored position."""
        self._loop.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the loop after the current chunk, or after `timeout_s` seconds."""
        self._loop.stop(timeout_s)

    def publish_available(self) -> bool:
        """Sends one chunk of the entries after the position; False if there were none.

        Raises:
            UnavailableError: Sending failed, or the store cannot be read. Try again later.
        """
        if not self._connection.is_open and self._store.state().history_number:
            self._connection.use(self._look)
        messages = self._chunk()
        if not messages and self._connection.is_open and self._is_due(self._looked_at, self._settings.look_every_s):
            self._connection.use(self._look)
            messages = self._chunk()
        if not messages:
            self._store_position()
            return False
        self._connection.use(lambda sender: self._send(sender, messages))
        self._listener.published(self._published)
        self._store_position()
        return True

    def _send(self, sender: Sender, messages: Sequence[Message]) -> None:
        offsets = sender.send(messages, self._loop.stopping)
        self._published = messages[-1].number
        self._mark = self._run.mark(self._published, offsets)

    def _look(self, sender: Sender) -> None:
        """Compares the topic with what was acknowledged, and goes back if it lost something."""
        with sender.look() as topic:
            last = last_in(topic)
            self._check_epoch(last)
            epoch, mark = self._epoch, self._mark
            kept = None if mark is None or epoch is None else find_kept(topic, mark, epoch)
            if mark is not None and kept == Kept(mark.number, mark.offset) and topic.end == mark.offset + 1:
                self._run = _Run.of(mark)
            else:
                self._run = _Run(topic.topic_id, kept or NOTHING_KEPT)
            if mark is None:
                self._go_back(_without_mark(last, epoch))
            elif kept is not None:
                self._go_back(kept)
        self._looked_at = self._clock()

    def _check_epoch(self, last: LastMessage | None) -> None:
        """Begins an epoch if there is none, or if the store was put back or overtaken."""
        epoch = self._epoch = self._store.epoch()
        theirs = None if last is None else last.epoch
        if epoch is None:
            published = self._published if theirs is None else self._swept()
            if last is not None and theirs is not None:
                log.warning(
                    "the topic ends at entry %d of the epoch %d of another store: this store is new, or it replaces a "
                    "store that was lost; %s is published in an epoch of its own",
                    last.number,
                    theirs.created_ms,
                    self._kept_history(),
                )
            self._begin_epoch(new_epoch(self._now_ms(), theirs.created_ms if theirs else 0, token_hex(8), published))
        elif last is not None and theirs is not None and self._was_put_back(epoch, theirs, last):
            log.warning(
                "the topic ends at entry %d of the epoch %d, the store was put back to an earlier state: %s is "
                "published again",
                last.number,
                theirs.created_ms,
                self._kept_history(),
            )
            self._begin_epoch(new_epoch(self._now_ms(), theirs.created_ms, token_hex(8), self._swept()))

    def _was_put_back(self, epoch: StoreEpoch, theirs: StoreEpoch, last: LastMessage) -> bool:
        """Whether another store has published since, or this one in a later state."""
        if is_newer(theirs, epoch):
            return True
        if theirs.created_ms != epoch.created_ms:
            return False
        if last.number <= self._swept():
            return False  # it was published before it was swept
        # The store may have gone on since it was put back, so the number alone does not tell.
        if self._is_loaded(last.number):
            return False
        mine = self._store.history(last.number - 1, 1)
        return not mine or (mine[0].image_id, mine[0].new_head) != last.change

    def _is_loaded(self, number: int) -> bool:
        """Whether an entry comes with the message of the first load."""
        return self._load is not None and number <= self._load.last_number

    def _swept(self) -> int:
        """The number of the last history entry that is not kept any more; 0: all are."""
        return self._store.state().history_first - 1

    def _kept_history(self) -> str:
        """What of the history can be published, in words."""
        swept = self._swept()
        if not swept:
            return "all of its history"
        return (
            f"its history from entry {swept + 1} on, the first that it keeps (heads that have not changed since do not "
            "come again),"
        )

    def _begin_epoch(self, epoch: StoreEpoch) -> None:
        self._store.begin_epoch(epoch)
        self._epoch = epoch
        self._published = self._stored = epoch.first - 1
        self._mark = None

    def _go_back(self, kept: Kept | None) -> None:
        """Publishes again what comes after an entry. It is stored first: a restart must not trust the old mark."""
        if kept is None or kept.number >= self._published:
            return
        swept = self._swept()
        if kept.number < swept and not self._is_loaded(swept):
            log.error(
                "the topic has history entries up to %d, and those from %d to %d are lost: they were acknowledged, and "
                "the store does not keep them any more (history_days)",
                kept.number,
                kept.number + 1,
                swept,
            )
        number = max(kept.number, swept)
        log.warning(
            "the topic has history entries up to %d, but %d were acknowledged: the rest is sent again",
            kept.number,
            self._published,
        )
        mark = None if kept.offset < 0 or number > kept.number else self._run.mark(number, [kept.offset])
        self._store.set_published(number, mark)
        self._published = self._stored = number
        self._mark = mark
        self._run = _Run(self._run.topic_id, kept)

    def _store_position(self) -> None:
        if self._stored != self._published and self._is_due(self._stored_at, self._settings.store_every_s):
            self._store.set_published(self._published, self._mark)
            self._stored, self._stored_at = self._published, self._clock()

    def _is_due(self, last: float, every_s: float) -> bool:
        return self._clock() >= last + every_s

    def _chunk(self) -> list[Message]:
        messages: list[Message] = []
        epoch, size = self._epoch, 0
        if epoch is None:  # no sender was opened yet: there is no history
            return messages
        after = self._published
        if self._load is not None and self._is_loaded(after + 1):
            messages.append(load_message(self._load, epoch))
            after, size = self._load.last_number, messages[0].size
        for entry in self._store.history(after, self._settings.chunk_entries):
            message = message_of(entry, epoch)
            messages.append(message)
            size += message.size
            if size >= self._settings.chunk_bytes:
                break
        return messages

    def _end(self) -> None:
        self._stored_at = -math.inf
        with suppress(NeardupError):  # what is not stored is sent again
            self._store_position()
        self._connection.close()

    def _wake(self, state: StoreState) -> None:
        if state.history_number > self._published:
            self._loop.wake()


@dataclass(slots=True)
class _Run:
    """The messages that were sent in order since the topic was looked at, and what lies before them."""

    topic_id: str = ""
    base: Kept = NOTHING_KEPT
    first: int | None = None
    """The offset of the first of them; None: none was sent yet."""

    @classmethod
    def of(cls, mark: PublishedMark) -> _Run:
        """The run that a mark is of, which goes on."""
        return cls(mark.topic_id, Kept(mark.base_number, mark.base_offset), mark.run_offset)

    def mark(self, number: int, offsets: Sequence[int]) -> PublishedMark:
        """The mark of the last entry of a chunk with these offsets."""
        if self.first is None:
            self.first = offsets[0]
        return PublishedMark(self.topic_id, number, offsets[-1], self.first, self.base.number, self.base.offset)


def _without_mark(last: LastMessage | None, epoch: StoreEpoch | None) -> Kept | None:
    """What the last message of the topic says of an epoch: all that is known of what an earlier release sent."""
    if last is None or epoch is None:
        return None
    if last.epoch is None:
        return Kept(min(last.number, epoch.first - 1), -1)
    return Kept(epoch.first - 1 if last.epoch.created_ms < epoch.created_ms else last.number, -1)
