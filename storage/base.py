"""What our stores share: the checks before a write, staging, one writer at a time, listeners."""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import final

from core.errors import BadInputError, LogGapError, MismatchError, RefusedError, StaleError, UnavailableError
from core.log_epochs import renewed
from core.overrides import (
    MAX_FORBIDDEN,
    OVERRIDE_KIND,
    ListedOverride,
    Override,
    OverrideKind,
    OverrideMove,
    OverrideOutcome,
    OverrideRequest,
)
from core.types import NO_OFFSET, Decision, ImageId, LogPosition, Lookup
from storage.delta_progress import as_said
from storage.erasing import erased
from storage.forgetting import renaming_all
from storage.interfaces import ClusterStore, StoreView
from storage.limits import MAX_TEXT_BYTES, check_decision, check_delta
from storage.mending import mended
from storage.overrides.book import OverrideBook, checked_request, fingerprint
from storage.overrides.many import ManyForbidden, has_many
from storage.overrides.moves import MAX_MOVED, TooManyMovesError, resolved, stage_override
from storage.overrides.rules import Rules
from storage.records import DeltaProgress, EraseStep, Heads, Mend, PublishedMark, StoreEpoch, StoreState
from storage.rollback.resolving import asked_rollback, undoing
from storage.staging import Changes, Reader, stage
from storage.sweeping import Sweep, planned_sweep

__all__ = ["StagedStore", "check_basis", "system_ms"]

log = logging.getLogger(__name__)

REQUEUED = (OverrideKind.UNDO, OverrideKind.ROLLBACK)
"""These may want images to be decided again."""

HELD_S = 1.0
"""How long a caller is asked to wait while a first load is under way."""

MOST_AT_ONCE = 1_000
"""Overrides that one call applies while a store is built again: each is synced."""


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


def _range(state: StoreState) -> str:
    return f"{state.history_first} to {state.history_number}"


def system_ms() -> int:
    """Milliseconds since the epoch, by the clock of the machine."""
    return time.time_ns() // 10**6


class StagedStore(ClusterStore):
    """Checks and stages decisions, and passes the changes to `_commit`. Subclasses store them."""

    def __init__(self, now_ms: Callable[[], int], most: int | None = None) -> None:
        """Takes the clock, in milliseconds since the epoch, and how many images one write moves; None: any number."""
        self._now_ms = now_ms
        self._most = most
        self._second = 0
        """Of the last write of history, in seconds since the epoch. It never goes back, whatever the clock does."""
        self._book = OverrideBook()
        self._many = ManyForbidden()
        self._found = 0, NO_OFFSET
        """How many overrides there were when the content was opened, and its position. Those after it waited."""
        self._held: Callable[[], str] | None = None
        """Why records of the order and overrides have to wait; None: they need not."""
        self._writer = threading.RLock()
        self._listeners: list[Callable[[StoreState], None]] = []
        self._rename_listeners: list[Callable[[int], None]] = []

    @abstractmethod
    def _current(self) -> tuple[StoreState, Reader]:
        """The state and a reader of the content. Both are used only while this thread is the writer."""

    @abstractmethod
    def _commit(self, changes: Changes) -> None:
        """Stores all of the changes or nothing, and syncs."""

    @abstractmethod
    def _keep(self, override: Override) -> None:
        """Adds an override to those that are kept for ever, outside the content, and syncs."""

    @abstractmethod
    def _commit_published(self, number: int, mark: PublishedMark | None) -> None:
        """Stores the number of the last published history entry and its mark. Syncs."""

    @abstractmethod
    def _commit_epoch(self, epoch: StoreEpoch) -> None:
        """Stores the epoch, and what is published: all before its first number, without a mark. Syncs."""

    @abstractmethod
    def _commit_swept(self, state: StoreState, sweep: Sweep) -> None:
        """Stores the state, and removes what a sweep names. Syncs."""

    @abstractmethod
    def _commit_sent(self, offsets: Collection[int]) -> None:
        """Removes the dead letters of these offsets, which were published."""

    @final
    def apply(
        self, log_id: str, decisions: Sequence[Decision], offset: int, revision: int, kinds: Collection[str] = ()
    ) -> LogPosition:
        """See `ClusterStore.apply`."""
        known = frozenset(kinds)
        self._check_free()
        with self._writer:
            self._check_held()
            state, _ = self._ready()
            _check_kinds(state.required, known, "the order may hold records of the kinds")
            check_basis(state, log_id, decisions, offset, revision)
            if not decisions and known == state.kinds:
                return state.position
            front = self._up_to_override(state, decisions)
            for part in self._parts(front):
                self._apply_part(log_id, part, known)
            told, _ = self._ready()
        if len(front) < len(decisions):
            raise StaleError(
                f"an override was applied after offset {told.position.offset}, within the decisions: look up again",
                told.position.offset,
                told.revision,
            )
        return told.position

    def _check_held(self) -> None:
        """Makes sure that the store may change.

        Raises:
            UnavailableError: A first load is under way, whose content takes the place of this one.
        """
        held = self._held  # once: a load may end meanwhile
        if held is not None:
            raise UnavailableError(held(), HELD_S)

    def _parts(self, decisions: Sequence[Decision]) -> Iterator[Sequence[Decision]]:
        """What is written together. Each part must be written before the next is asked for.

        A forget is a part of its own if more images may move than one write carries.
        """
        start = 0
        for at, decision in enumerate(decisions):
            if decision.forget and self._may_move_more(decision, decisions[start:at]):
                yield from filter(None, (decisions[start:at], decisions[at : at + 1]))
                start = at + 1
        if start < len(decisions) or not decisions:
            yield decisions[start:]

    def _may_move_more(self, decision: Decision, before: Sequence[Decision]) -> bool:
        """Whether a forget may move more images than one write carries, once some decisions before it are applied."""
        if self._most is None:
            return False
        cluster = self._current()[1].cluster(decision.image_id)
        others = 0 if cluster is None else cluster.count - (not cluster.head_deleted)
        return others + sum(len(each.moves) for each in before) > self._most

    def _apply_part(self, log_id: str, part: Sequence[Decision], kinds: frozenset[str]) -> None:
        if len(part) == 1 and part[0].forget and self._may_move_more(part[0], ()):
            self._forget_in_bulk(log_id, part[0], kinds)
            return
        changes = self._decided(log_id, part)
        if self._settle_touched(changes):
            changes = self._decided(log_id, part)
        changes.state = replace(changes.state, kinds=kinds)
        self._commit_told(changes)

    def _decided(self, log_id: str, decisions: Sequence[Decision]) -> Changes:
        state, reader = self._current()
        if not any(each.forget for each in decisions):
            return stage(reader, state, log_id, decisions)
        with self.snapshot() as view:
            return stage(view, state, log_id, decisions, renaming_all(lambda head: view.edges_of(head, 0)))

    @final
    def erase(self, step: EraseStep) -> None:
        """See `ClusterStore.erase`."""
        with self._writer:
            changes = self._erased(step)
            if self._settle_touched(changes):
                changes = self._erased(step)
            self._commit_told(changes)

    def _erased(self, step: EraseStep) -> Changes:
        state, _ = self._current()
        with self.snapshot() as view:
            return erased(view, state, step)

    @final
    def override(self, request: OverrideRequest, at_ms: int, *, dry_run: bool = False) -> OverrideOutcome:
        """See `ClusterStore.override`."""
        request = checked_request(request)
        self._check_free()
        self._check_held()
        # The stream does not wait until so many images are read, however few of them move.
        if self._most is not None and len(request.images) > MAX_MOVED:
            if (known := self._book.same(request)) is not None:
                return OverrideOutcome(known, (), created=False)
            return self._override_in_bulk(request, at_ms, dry_run=dry_run)
        with self._writer:
            self._check_held()
            state, _ = self._ready()
            with self.snapshot() as view:
                found = self._checked(view, request, at_ms)
                if isinstance(found, OverrideOutcome):
                    return found
                override, rules = found
                try:
                    changes = self._staged(view, rules, override, again=False)
                except TooManyMovesError:
                    changes = None
            if changes is not None:
                return self._say(state, override, rules, changes, dry_run=dry_run)
        return self._override_in_bulk(request, at_ms, dry_run=dry_run)

    @final
    def overrides(self, after: int, limit: int, image_id: ImageId | None = None) -> Sequence[ListedOverride]:
        """See `ClusterStore.overrides`."""
        return self._book.listed(after, limit, image_id)

    @final
    def set_requeued(self, number: int) -> None:
        """See `ClusterStore.set_requeued`."""
        with self._writer:
            state, _ = self._ready()
            if not 0 <= number <= state.overrides:
                raise BadInputError(f"the override {number} was not applied, the last one is {state.overrides}")
            self._commit(Changes(replace(state, requeued=number)))

    def _with_rules(
        self, lookup: Lookup, asked: Sequence[ImageId], heads_of: Callable[[Iterable[ImageId]], Heads]
    ) -> Lookup:
        """A look-up with the rules of the images asked for, and the heads that matter to them.

        Of the images that one must not meet, only those come along that are asked for too, or are in a cluster of the
        look-up: an image may be forbidden a thousand others. If it is more, one may stand for all of a cluster.
        """
        rules = self._book.rules.named(asked)
        if not rules:
            return lookup
        targets = {one.pinned_to for one in rules.values() if one.pinned_to is not None}
        heads = dict(heads_of(targets.union(*(one.forbidden for one in rules.values() if not has_many(one)))).heads)
        all_asked = dict.fromkeys(asked)
        clusters = dict.fromkeys((*lookup.clusters, *(heads[each] for each in targets if each in heads)))
        near = {*asked, *clusters}
        met = {
            image_id: one._replace(
                forbidden=self._many.met(image_id, one.forbidden, lookup, all_asked, clusters, heads_of)
                if has_many(one)
                else tuple(each for each in one.forbidden if near & {each, heads.get(each)})
            )
            for image_id, one in rules.items()
        }
        named = targets.union(*(one.forbidden for one in met.values()))
        if any(map(has_many, rules.values())):
            heads.update(heads_of(named.difference(heads)).heads)
        return replace(lookup, rules=met, rule_heads={each: heads[each] for each in named if each in heads})

    def _ready(self, most: int | None = MOST_AT_ONCE) -> tuple[StoreState, Reader]:
        """The state and a reader, once the overrides are applied that come after the store's position.

        One is not applied yet if the disk refused that write after it was kept, or if the content is being built again.

        Args:
            most: How many are applied before the caller is asked to wait; None: all.

        Raises:
            UnavailableError: There are more.
        """
        state, reader = self._current()
        applied = 0
        while (due := self._book.next_after(state.overrides)) and due.applied_after <= state.position.offset:
            if applied == most:
                raise UnavailableError(f"overrides are applied, {self._book.last - state.overrides} are left", 0.1)
            applied += 1
            self._apply_again(state, due)
            state, reader = self._current()
        if applied:
            log.warning("after position %d: %d overrides were applied again", state.position.offset, applied)
        return state, reader

    def _apply_again(self, state: StoreState, due: Override) -> None:
        rules = self._book.rules.with_(due)
        try:
            with self.snapshot() as view:
                changes = self._staged(view, rules, due, again=True)
        except TooManyMovesError:
            self._apply_in_bulk(due)
            return
        if self._settle_touched(changes):
            with self.snapshot() as view:
                state, changes = view.state(), self._staged(view, rules, due, again=True)
        self._commit_override(state, due, changes)

    def _staged(self, view: StoreView, rules: Rules, override: Override, *, again: bool) -> Changes:
        if override.rollback is not None:
            self._check_settled()
        return stage_override(view, rules, override, self._applied_after, again=again, most=self._most)

    def _check_settled(self) -> None:
        """Makes sure that no bulk move is under way, of which the history does not tell everything yet.

        Raises:
            UnavailableError: One is.
        """

    def _say(
        self, state: StoreState, override: Override, rules: Rules, changes: Changes, *, dry_run: bool
    ) -> OverrideOutcome:
        """Keeps and applies an override that one write can carry."""
        moves = tuple(
            OverrideMove(entry.image_id, entry.old_head, entry.new_head)
            for entry in changes.history
            if entry.old_head is not None
        )
        if dry_run:
            return OverrideOutcome(override, moves, created=False)
        if self._settle_touched(changes):
            with self.snapshot() as view:
                state, changes = view.state(), self._staged(view, rules, override, again=False)
        self._keep_new(state, override)
        self._commit_override(state, override, changes)
        return OverrideOutcome(override, moves, created=True)

    def _keep_new(self, state: StoreState, override: Override) -> None:
        """Keeps an override that is applied next.

        Raises:
            MismatchError: The job that wrote last does not know overrides.
            WriteError: The disk refuses it.
        """
        if state.position.log_id:
            _check_kinds(frozenset({OVERRIDE_KIND}), state.kinds, "an override needs a job that knows")
        self._keep(override)
        self._book.keep(override)

    def _settle_touched(self, changes: Changes) -> bool:
        """Rewrites what a bulk move has not rewritten yet of the records that changes are about.

        Returns:
            Whether anything was written, so that the changes must be staged again.
        """
        return False

    def _check_free(self) -> None:
        """Makes sure that the writer's lock is not held for minutes, or callers that give up would wait for it by the
        dozen.

        Raises:
            UnavailableError: It is.
        """

    def _forget_in_bulk(self, log_id: str, decision: Decision, kinds: frozenset[str]) -> None:
        """Applies a forget that moves more images than one write can carry. The caller is the writer."""
        raise BadInputError(f"one forget moves at most {self._most} images")

    def _override_in_bulk(self, request: OverrideRequest, at_ms: int, *, dry_run: bool) -> OverrideOutcome:
        """Says an override that moves more than one write can carry. The writer's lock is free."""
        raise BadInputError(f"one override moves at most {self._most} images")

    def _apply_in_bulk(self, override: Override) -> None:
        """Applies an override again that moves more than one write can carry. The caller is the writer."""
        raise BadInputError(f"one override moves at most {self._most} images")

    def _checked(
        self, view: StoreView, request: OverrideRequest, at_ms: int
    ) -> tuple[Override, Rules] | OverrideOutcome:
        """The override that a request makes, and the rules with it; or what says the same already.

        Raises:
            UnavailableError: The store is built again, and other overrides come first.
        """
        if (known := self._book.same(request)) is not None:
            return OverrideOutcome(known, (), created=False)
        state = view.state()
        if (waiting := self._book.next_after(state.overrides)) is not None:
            raise UnavailableError(
                f"the store is built again and at position {state.position.offset}, and the override "
                f"{waiting.number} comes after position {waiting.applied_after}: wait until it is applied"
            )
        override = Override(
            number=self._book.last + 1,
            kind=request.kind,
            images=request.images,
            target=request.target,
            undoes=request.undoes,
            author=request.author,
            reason=request.reason,
            at_ms=at_ms,
            applied_after=state.position.offset,
            asked=fingerprint(request.kind, request.images, request.target),
        )
        if override.kind is OverrideKind.UNDO:
            self._book.check_undo(override.undoes)
        override = self._resolved(view, override, request)
        if (known := self._book.same(replace(request, images=override.images, target=override.target))) is not None:
            return OverrideOutcome(known, (), created=False)
        rules = self._book.rules.checked(override)
        self._check_leads(view, override, rules)
        return override, rules

    def _check_leads(self, view: StoreView, override: Override, rules: Rules) -> None:
        """Makes sure that an image that look-ups do not bring the followers of has no other head than itself.

        Raises:
            BadInputError: It has; the message names that head.
        """
        target = override.target
        if override.kind not in (OverrideKind.PIN, OverrideKind.MERGE) or target is None:
            return
        image = view.image(target)
        if len(rules.of(target).followers) > MAX_FORBIDDEN and image is not None and image.head != target:
            raise BadInputError(
                f"more than {MAX_FORBIDDEN} images can be pinned to a head alone, and {target!r} has the head "
                f"{image.head!r}"
            )

    def _resolved(self, view: StoreView, override: Override, request: OverrideRequest) -> Override:
        """An override in terms of the clusters and the order that are there."""
        if request.rollback is not None:
            return replace(override, rollback=asked_rollback(view, request.rollback, self._applied_after))
        if override.kind is OverrideKind.UNDO and (undone := self._book.get(override.undoes)).rollback is not None:
            return replace(override, rollback=undoing(undone))
        return resolved(view, override)

    def _applied_after(self, number: int) -> int:
        """The position that an override was applied after."""
        return self._book.get(number).applied_after

    def _commit_override(self, state: StoreState, override: Override, changes: Changes) -> None:
        """Writes what an override changes.

        Its rules hold before that. So nobody sees the new revision without them.
        """
        self._book.apply(override)
        changes.state = self._after_override(replace(changes.state, revision=state.revision), override)
        self._commit_told(changes)

    def _after_override(self, state: StoreState, override: Override) -> StoreState:
        """The state once an override is applied."""
        found, position = self._found
        # Of one that is applied again, the order that the content is built from has the replays that it asked for.
        has_replays = override.kind in REQUEUED and override.number <= found and override.applied_after > position
        return replace(
            state,
            revision=state.revision + 1,
            overrides=override.number,
            required=state.required | {OVERRIDE_KIND},
            requeued=override.number if has_replays else state.requeued,
        )

    def _commit_told(self, changes: Changes, commit: Callable[[Changes], None] | None = None) -> None:
        """Commits, and tells the listeners, in the order of the writes.

        Until when history was written is kept, so that the past can be read by time.
        """
        if changes.history:
            changes.second = self._second = max(self._second, self._now_ms() // 1000)
        if commit is None:  # the steps of a bulk move are seen before they are in the history
            self._many.before_write(changes.state, changes.history, self._book.rules)
        (commit or self._commit)(changes)
        for listener in self._listeners:
            listener(changes.state)
        if changes.renamed:
            for heard in self._rename_listeners:
                heard(changes.renamed)

    def _up_to_override(self, state: StoreState, decisions: Sequence[Decision]) -> Sequence[Decision]:
        """The decisions up to the position after which the next override that waits was applied first."""
        waiting = self._book.next_after(state.overrides)
        return decisions if waiting is None else decisions[: waiting.applied_after - state.position.offset]

    @final
    def renew(self, log_id: str, base: int) -> LogPosition:
        """See `ClusterStore.renew`."""
        with self._writer:
            self._check_held()
            state, _ = self._current()
            _check_log_id(log_id)
            position = renewed(state.position, log_id, base)
            if position == state.position:
                return position
            told = replace(state, position=position, revision=state.revision + 1)
            self._commit_told(Changes(told))
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
            self._commit_told(Changes(told))

    @final
    def put_delta(self, progress: DeltaProgress) -> None:
        """See `ClusterStore.put_delta`."""
        check_delta(progress)
        with self._writer:
            state, reader = self._current()
            manifest_id = progress.request.manifest_id
            said = as_said(reader.delta(manifest_id), progress, self._now_ms())
            self._commit(Changes(state, deltas={manifest_id: said}))

    @final
    def set_published(self, number: int, mark: PublishedMark | None = None) -> None:
        """See `ClusterStore.set_published`."""
        with self._writer:
            state, _ = self._current()
            if not state.history_first - 1 <= number <= state.history_number:
                raise BadInputError(
                    f"history number {number} cannot be published: the store has entries {_range(state)}"
                )
            self._commit_published(number, mark)

    @final
    def begin_epoch(self, epoch: StoreEpoch) -> None:
        """See `ClusterStore.begin_epoch`."""
        with self._writer:
            state, _ = self._current()
            if not state.history_first <= epoch.first <= state.history_number + 1:
                raise BadInputError(
                    f"an epoch cannot begin at history number {epoch.first}: the store has entries {_range(state)}"
                )
            self._commit_epoch(epoch)

    @final
    def sweep_history(self, before: int, limit: int) -> int:
        """See `ClusterStore.sweep_history`."""
        # Old entries never change, so they are read before the writer has to wait.
        with self.snapshot() as view:
            sweep = planned_sweep(view, before, limit)
        if sweep is None:
            return 0
        with self._writer:
            state, _ = self._current()
            if state.history_first != sweep.first or self.published() < sweep.next_first:
                return 0  # another sweep was faster, or the topic lost messages meanwhile
            told = replace(state, history_first=sweep.next_first)
            self._commit_swept(told, sweep)
            for listener in self._listeners:
                listener(told)
        return len(sweep.entries)

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
            if self._settle_touched(changes):
                with self.snapshot() as view:
                    before, changes = view.state(), mended(view, mends)
            changes.state = replace(changes.state, revision=before.revision + 1)
            self._commit_told(changes)

    @final
    def on_apply(self, listener: Callable[[StoreState], None]) -> None:
        """See `ClusterStore.on_apply`."""
        self._listeners = [*self._listeners, listener]

    @final
    def on_rename(self, listener: Callable[[int], None]) -> None:
        """See `ClusterStore.on_rename`."""
        self._rename_listeners = [*self._rename_listeners, listener]
