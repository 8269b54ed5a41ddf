"""What our stores share: the checks before a write, staging, one writer at a time, listeners."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import final

from core.errors import BadInputError, LogGapError, MismatchError, RefusedError, StaleError
from core.log_epochs import renewed
from core.types import Decision, LogPosition
from storage.interfaces import ClusterStore
from storage.limits import MAX_TEXT_BYTES, check_decision
from storage.mending import mended
from storage.records import Mend, PublishedMark, StoreEpoch, StoreState
from storage.staging import Changes, Reader, stage

__all__ = ["StagedStore", "check_basis"]


def check_basis(state: StoreState, log_id: str, decisions: Sequence[Decision], offset: int, revision: int) -> None:
    """Refuses decisions that do not continue the store, or that rest on another state of it.

    Raises:
        StaleError: Offset or revision are not the store's.
        LogGapError: The log is another one, or the offsets are not consecutive.
        RefusedError: A decision is malformed.
    """
    position = state.position
    if (offset, revision) != (position.offset, state.revision):
        raise StaleError(
            f"the decisions rest on offset {offset} and revision {revision}, the store has offset {position.offset}"
            f" and revision {state.revision}: look up again",
            position.offset,
            state.revision,
        )
    _check_log_id(log_id)
    expected = position.offset + 1
    if position.log_id and log_id != position.log_id:
        raise LogGapError(f"the decisions come from the log {log_id}, the store follows {position.log_id}", expected)
    for decision in decisions:
        if decision.offset != expected:
            raise LogGapError(f"the store expects offset {expected}, the decision has {decision.offset}", expected)
        check_decision(decision)
        expected += 1


def _check_kinds(needed: frozenset[str], known: frozenset[str], why: str) -> None:
    if not needed <= known:
        raise MismatchError(
            f"{why} {', '.join(sorted(needed))}, and the job knows {', '.join(sorted(known)) or 'none of them'}: "
            f"run a job of this release or a later one"
        )


def _check_log_id(log_id: str) -> None:
    if not 1 <= len(log_id.encode()) <= MAX_TEXT_BYTES:
        raise RefusedError(f"a log id has 1 to {MAX_TEXT_BYTES} bytes: {log_id[:64]!r}")


class StagedStore(ClusterStore):
    """Checks and stages decisions, and passes the changes to `_commit`. Subclasses store them."""

    def __init__(self) -> None:
        self._writer = threading.Lock()
        self._listeners: list[Callable[[StoreState], None]] = []

    @abstractmethod
    def _current(self) -> tuple[StoreState, Reader]:
        """The state and a reader of the content. Both are used only while this thread is the writer."""

    @abstractmethod
    def _commit(self, changes: Changes) -> None:
        """Stores all of the changes or nothing, and syncs."""

    @abstractmethod
    def _commit_published(self, number: int, mark: PublishedMark | None) -> None:
        """Stores the number of the last published history entry and its mark. Syncs."""

    @abstractmethod
    def _commit_epoch(self, epoch: StoreEpoch) -> None:
        """Stores the epoch, and what is published: all before its first number, without a mark. Syncs."""

    @abstractmethod
    def _commit_sent(self, offsets: Collection[int]) -> None:
        """Removes the dead letters of these offsets, which were published."""

    @final
    def apply(
        self, log_id: str, decisions: Sequence[Decision], offset: int, revision: int, kinds: Collection[str] = ()
    ) -> LogPosition:
        """See `ClusterStore.apply`."""
        known = frozenset(kinds)
        with self._writer:
            state, reader = self._current()
            _check_kinds(state.required, known, "the order may hold records of the kinds")
            check_basis(state, log_id, decisions, offset, revision)
            if not decisions and known == state.kinds:
                return state.position
            changes = stage(reader, state, log_id, decisions)
            changes.state = replace(changes.state, kinds=known)
            self._commit(changes)
        for listener in self._listeners:
            listener(changes.state)
        return changes.state.position

    @final
    def renew(self, log_id: str, base: int) -> LogPosition:
        """See `ClusterStore.renew`."""
        with self._writer:
            state, _ = self._current()
            _check_log_id(log_id)
            position = renewed(state.position, log_id, base)
            if position == state.position:
                return position
            told = replace(state, position=position, revision=state.revision + 1)
            self._commit(Changes(told))
        for listener in self._listeners:
            listener(told)
        return position

    @final
    def require_kinds(self, kinds: Collection[str]) -> None:
        """See `ClusterStore.require_kinds`."""
        with self._writer:
            state, _ = self._current()
            _check_kinds(frozenset(kinds), state.kinds, "somebody wants to write records of the kinds")
            required = state.required.union(kinds)
            if required == state.required:
                return
            told = replace(state, required=required, revision=state.revision + 1)
            self._commit(Changes(told))
        for listener in self._listeners:
            listener(told)

    @final
    def set_published(self, number: int, mark: PublishedMark | None = None) -> None:
        """See `ClusterStore.set_published`."""
        with self._writer:
            last = self._current()[0].history_number
            if not 0 <= number <= last:
                raise BadInputError(f"history number {number} cannot be published, the last entry is {last}")
            self._commit_published(number, mark)

    @final
    def begin_epoch(self, epoch: StoreEpoch) -> None:
        """See `ClusterStore.begin_epoch`."""
        with self._writer:
            last = self._current()[0].history_number
            if not 1 <= epoch.first <= last + 1:
                raise BadInputError(f"an epoch cannot begin at history number {epoch.first}, the last entry is {last}")
            self._commit_epoch(epoch)

    @final
    def remove_dead_letters(self, offsets: Collection[int]) -> None:
        """See `ClusterStore.remove_dead_letters`."""
        with self._writer:
            self._current()
            self._commit_sent(offsets)

    @final
    def mend(self, mends: Collection[Mend]) -> None:
        """See `ClusterStore.mend`."""
        with self._writer:
            before, _ = self._current()
            with self.snapshot() as view:
                changes = mended(view, mends)
            if changes == Changes(before):
                return
            changes.state = replace(changes.state, revision=before.revision + 1)
            self._commit(changes)
        for listener in self._listeners:
            listener(changes.state)

    @final
    def on_apply(self, listener: Callable[[StoreState], None]) -> None:
        """See `ClusterStore.on_apply`."""
        self._listeners = [*self._listeners, listener]
