"""One delta while it is under way: the store, the order and the clock that its rows need (`storage.loading.deltas`)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from core.apart import WorkStopped
from core.errors import MismatchError, NeardupError, UnavailableError
from core.first_loads import LoadState
from core.overrides import MEMBER_KIND
from storage.errors import CorruptedError, StorageError
from storage.interfaces import ClusterStore
from storage.loading.delta_check import check_apart
from storage.loading.delta_rows import MemberRecord
from storage.loading.deltas import Seen, run_delta
from storage.loading.pace import Rate
from storage.loading.run import LoadSettings
from storage.records import DeltaProgress
from storage.serving.assignments import Message
from storage.serving.order_writer import HEADERS
from storage.serving.sender import Connection, Sender

__all__ = ["DeltaRun", "FeederParts", "KeptDeltas"]

log = logging.getLogger(__name__)

WAIT_FIRST_S, _WAIT_MAX_S = 1.0, 30.0
"""How soon it is tried again what was in the way, at first and at last."""

PART_BYTES = 524_288
"""Rows wait for those before them to be acknowledged when keys and values of both have more bytes than this. One write
must be one batch of the sender: of two, the second may arrive where the first fails, and the last row that is applied
then hides those that are missing."""

_TELL_S = 5.0
"""Metrics are told so often how far it is."""


@dataclass(frozen=True, slots=True)
class FeederParts:
    """What deltas need beside the store."""

    settings: Callable[[], LoadSettings] | None
    """Tells which images may be loaded; None: none."""
    open_sender: Callable[[], Sender] | None
    """Connects to the order, or raises `UnavailableError`; None: nothing can be written there."""
    live_delay_ms: Callable[[], int]
    """How late live images are; 0: there are none."""
    spool: Path
    """A folder of its own, for copies of files and buckets of identities."""
    now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6
    """Milliseconds since the epoch."""
    clock: Callable[[], float] = time.monotonic
    """Seconds that only grow."""

    @property
    def can_write(self) -> bool:
        """Whether rows can be written at all."""
        return self.settings is not None and self.open_sender is not None


class KeptDeltas:
    """What is kept of deltas. A call and a thread may both want to end one: whoever comes first does."""

    def __init__(self, store: ClusterStore) -> None:
        """Keeps it in a store."""
        self._store = store
        self._lock = threading.Lock()

    def change(self, manifest_id: str, *, also: LoadState = LoadState.LOADING, **changes: Any) -> DeltaProgress | None:
        """Keeps other values of a delta, durably.

        Args:
            manifest_id: Of the delta.
            also: It may be in this state; it may always be loading.
            changes: The values.

        Returns:
            None: it is in another state, and stays as it is.

        Raises:
            WriteError: The disk refuses it.
            UnavailableError: The store is closed or opens again.
        """
        with self._lock:
            known = self._store.delta(manifest_id)
            if known is None or known.state not in (LoadState.LOADING, also):
                return None
            self._store.put_delta(replace(known, **changes))
            return self._store.delta(manifest_id)


class _EndedError(Exception):
    """Somebody has ended it, or the server stops."""


class DeltaRun:
    """A `DeltaWatch` on a store and a topic. Its thread calls `until_it_ends`; all threads may read how far it is."""

    def __init__(
        self, store: ClusterStore, kept: KeptDeltas, parts: FeederParts, manifest_id: str, tell: Callable[[], None]
    ) -> None:
        """Does nothing yet.

        Args:
            store: Has the delta.
            kept: Changes it.
            parts: What else is needed.
            manifest_id: Of the delta.
            tell: Called now and then, and when it begins to wait.
        """
        assert parts.open_sender is not None
        self.manifest_id = manifest_id
        self.does = ""
        self.waits_for: str | None = None
        self.rate = Rate()
        self.over = threading.Event()
        """The thread is done with it."""
        self.now_ms = parts.now_ms
        self.clock = parts.clock
        self._store = store
        self._kept = kept
        self._parts = parts
        self._tell = tell
        self._told_s = parts.clock()
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._required = False
        self._connection = Connection(parts.open_sender)

    def end(self) -> None:
        """Makes the thread stop."""
        self._ended.set()
        self._changed.set()

    def changed(self) -> None:
        """The store has changed."""
        self._changed.set()

    def until_it_ends(self) -> None:
        """Brings the delta to its end, or goes on until `end` is called."""
        wait_s = WAIT_FIRST_S
        try:
            while not self._ended.is_set():
                before = self.rate.last
                try:
                    self._once()
                except (_EndedError, WorkStopped):
                    return
                except Exception as error:  # the edge of the thread: whoever asks must learn why
                    if not _may_pass(error):
                        log.error("a delta has failed: %s", error, exc_info=not isinstance(error, NeardupError))
                        self._fail(str(error) or repr(error))
                        return
                    self.waits(str(error))
                    wait_s = WAIT_FIRST_S if self.rate.last > before else min(2 * wait_s, _WAIT_MAX_S)
                    self._ended.wait(wait_s)
                else:
                    return
        finally:
            self._connection.close()

    def doing(self, what: str) -> None:
        """See `DeltaWatch.doing`."""
        if self._ended.is_set():
            raise _EndedError
        self.does, self.waits_for = what, None

    def waits(self, why: str) -> None:
        """See `DeltaWatch.waits`."""
        if self.waits_for is None:
            log.warning("the delta of manifest %s waits: %s", self.manifest_id, why)
        self.waits_for = why
        self._tell()

    def counted(self, rows: int) -> DeltaProgress:
        """See `DeltaWatch.counted`."""
        changes = {"rows": rows} if rows else {"state": LoadState.LIVE, "ended_ms": self.now_ms()}
        progress = self._kept.change(self.manifest_id, **changes)
        if progress is None:
            raise _EndedError
        return progress

    def look(self) -> Seen:
        """See `DeltaWatch.look`."""
        if self._ended.is_set():
            raise _EndedError
        with self._store.snapshot() as view:
            progress, position = view.delta(self.manifest_id), view.state().position
        if progress is None or progress.state not in (LoadState.LOADING, LoadState.LIVE):
            raise _EndedError
        now_s = self.clock()
        self.rate.saw(progress.applied + 1, now_s)
        if now_s - self._told_s >= _TELL_S:
            self._told_s = now_s
            self._tell()
        return Seen(progress.applied, position.log_id, self._parts.live_delay_ms())

    def send(self, records: Sequence[MemberRecord]) -> None:
        """See `DeltaWatch.send`."""
        if not self._required:
            try:
                self._store.require_kinds((MEMBER_KIND,))
            except MismatchError as error:
                raise UnavailableError(str(error)) from error
            self._required = True
        for part in _parts(Message(each.row, each.key, each.value, HEADERS) for each in records):
            self._connection.use(partial(self._send, part))

    def pause(self, seconds: float) -> None:
        """See `DeltaWatch.pause`."""
        self._changed.wait(seconds)
        self._changed.clear()
        if self._ended.is_set():
            raise _EndedError

    def _send(self, messages: Sequence[Message], sender: Sender) -> Sequence[int]:
        return sender.send(messages, self._ended.is_set)

    def _once(self) -> None:
        assert self._parts.settings is not None
        progress = self._store.delta(self.manifest_id)
        if progress is None or progress.state is not LoadState.LOADING:
            return
        check = partial(check_apart, stopped=self._ended)
        run_delta(progress, self._parts.spool, self._parts.settings(), self, check)
        log.info("the delta of manifest %s is live", self.manifest_id)

    def _fail(self, why: str) -> None:
        while not self._ended.is_set():
            try:
                self._kept.change(self.manifest_id, state=LoadState.FAILED, detail=why, ended_ms=self.now_ms())
            except NeardupError as error:
                log.warning("it cannot be kept that a delta has failed: %s", error)
                self._ended.wait(_WAIT_MAX_S)
            else:
                return


def _parts(messages: Iterable[Message]) -> Iterator[Sequence[Message]]:
    """Messages in their order, at most `PART_BYTES` of them at once; a larger one alone."""
    part: list[Message] = []
    size = 0
    for each in messages:
        if part and size + each.size > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(each)
        size += each.size
    if part:
        yield part


def _may_pass(error: Exception) -> bool:
    """Whether it may succeed later: what is wrong with a manifest never does, nor does a damaged store."""
    return isinstance(error, (UnavailableError, StorageError, OSError)) and not isinstance(error, CorruptedError)
