"""Bulk moves of a RocksDB store: planned beside the stream, seen by all from the first step, rewritten bit by bit.

    plan     the moves are written ahead, where nobody reads them, some at a time, while the stream goes on
    begin    one write: the override, the counts and the mark by which everybody reads what was written ahead
    settle   the records are rewritten, some at a time; what the stream touches is rewritten before it
    end      one write: the mark goes

A plan rests on a moment of the store. What the stream has decided since is looked at when the move begins: an image
that has joined a cluster that moves goes with it. Anything else that meets the plan makes it void, and it is made
again; the third time the stream waits for it.

A crash before the first step leaves a plan that nobody reads, which the next start removes. After it, the move goes on.

A head with very many members that is forgotten is one too: see `storage.rocks.bulk_forgets`.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import islice

from core.errors import BadInputError, UnavailableError
from core.overrides import Override, OverrideKind, OverrideMove, OverrideOutcome, OverrideRequest
from core.types import ImageId
from storage import codec, state_codec
from storage.base import StagedStore
from storage.bulk.deltas import Deltas
from storage.bulk.operations import Operation, OperationState, decode_operation, encode_operation
from storage.bulk.parted_images import PartingPlan
from storage.bulk.settling import settle_clusters, settle_images
from storage.bulk.whole_clusters import ClusterPlan
from storage.errors import CorruptedError, StorageError
from storage.interfaces import StoreView
from storage.limits import MAX_LISTED_MOVES
from storage.moving import Changes, PlannedMove
from storage.overrides.moves import MAX_MOVED
from storage.overrides.rules import NO_RULES, Rules
from storage.records import ClusterRecord, StoreState
from storage.rocks.database import AFTER_ALL, Database, KeyRange, Write
from storage.rocks.options import META
from storage.rocks.overlay import BULK
from storage.rocks.views import DROPPED, STATE, LiveReader
from storage.rollback.planning import RollbackPlan
from storage.rollback.points import latest_point
from storage.rollback.wish_plan import WishPlan

__all__ = ["AT_ONCE", "COMPACTED", "BulkStore", "begun_with", "noted"]

log = logging.getLogger(__name__)

TRIES = 3
"""How often a move is planned. The last time the stream waits."""

AT_ONCE = 250
"""Records of one write."""

BREAK = 0.5
"""After each write of a plan, for the stream: this share of the time that the plan took for it."""

PLAN = ("planned", "deltas")
"""The families of a plan."""

COMPACTED = 10_000
"""Heads that lose more members get their edges compacted, since a page would read past the deleted ones."""


class BulkStore(StagedStore):
    """The part of `RocksStore` on bulk moves."""

    def __init__(self, now_ms: Callable[[], int], moves_at_once: int = MAX_MOVED) -> None:
        """Takes the clock, and how many images one write moves."""
        super().__init__(now_ms, moves_at_once)
        self._planner = threading.Lock()
        """Held by who plans a bulk move."""
        self._planning: Operation | None = None
        self._forgetting: Operation | None = None
        """A forget that is planned. There is no other plan then, whatever `_planning` says."""
        self._cancelled = False
        self._void = False
        """The plan is removed, whoever still writes it."""
        self._dropped = 0
        """How many plans were removed."""
        self._moving: Operation | None = None
        """The one that everybody sees, and that is not over."""
        self._next_row = b""
        """The key from which on planned images are left."""
        self._left: list[ImageId] = []
        """The heads that many members have left."""

    @abstractmethod
    def _usable(self) -> Database: ...

    @abstractmethod
    def _write(self, writes: Iterable[Write], ranges: Iterable[KeyRange] = ()) -> None: ...

    @abstractmethod
    def _commit_with(self, changes: Changes, more: Iterable[Write], ranges: Iterable[KeyRange] = ()) -> None:
        """As `_commit`, with more that is written at the same time."""

    @abstractmethod
    def _operation_rows(self, after: int, limit: int) -> list[bytes]:
        """The bytes of at most `limit` operations with numbers above `after`."""

    @abstractmethod
    def _read_through_bulk(self, through: bool) -> None:
        """From now on readers look for a bulk move, or do not."""

    def operations(self, after: int, limit: int) -> Sequence[Operation]:
        """See `ClusterStore.operations`."""
        found = [decode_operation(value) for value in self._operation_rows(max(0, after), limit)]
        planning = self._planned()
        if planning is not None and planning.number > after and len(found) < limit:
            found = [*(each for each in found if each.number != planning.number), planning]
        return found

    def _planned(self) -> Operation | None:
        """What is planned, unless one that has begun meanwhile has taken its number."""
        planning, moving = self._forgetting or self._planning, self._moving
        return None if planning is None or (moving is not None and moving.number == planning.number) else planning

    def pause(self, number: int, *, rests: bool) -> None:
        """See `ClusterStore.pause`."""
        with self._writer:
            moving = self._of(number)
            self._note(replace(moving, state=OperationState.PAUSED if rests else OperationState.MOVING))

    def cancel(self, number: int) -> None:
        """See `ClusterStore.cancel`."""
        planning = self._planned()
        if planning is not None and planning.number == number and planning.position is not None:
            raise BadInputError(
                f"the bulk move {number} is what a record of the order asks for: it cannot be cancelled"
            )
        if planning is None or planning.number != number:
            raise BadInputError(
                f"no bulk move {number} is being planned: one that has begun is seen by everybody, so undo its override"
            )
        self._cancelled = True

    def settle(self, limit: int) -> bool:
        """See `ClusterStore.settle`."""
        if limit < 1:
            raise BadInputError(f"at least 1 record is rewritten, not {limit}")
        with self._writer:
            state = self._current()[0]
            moving = self._moving
            if moving is None or moving.state is OperationState.PAUSED:
                return False
            rows = self._usable().rows("planned", self._next_row, limit)
            if rows:
                self._next_row = rows[-1][0] + b"\0"
                self._settle_images(state, [key for key, _ in rows])
                return True
            heads = self._usable().rows("deltas", b"", limit)
            if heads:
                self._settle_clusters(state, [key for key, _ in heads], last=True)
                return True
            self._end(state, moving)
            with suppress(UnavailableError):  # what waits behind a bulk move may be one itself
                self._ready()
        self._compact()
        return self._moving is not None

    def _find_bulk(self) -> None:
        """Goes on with the move that the database has, or removes one that was never begun."""
        database = self._usable()
        mark = database.get(META, BULK)
        self._moving, self._next_row = None, b""
        if mark is not None:
            number = codec.decode_number("the bulk move", mark)
            value = database.get("operations", codec.encode_number(number))
            if value is None:
                raise CorruptedError(f"the bulk move {number} is gone")
            self._moving = decode_operation(value)
            log.info("the bulk move %d goes on: %d of %d images", number, self._moving.moved, self._moving.total)
            return
        self._drop_plan()

    def _apply_waiting(self) -> None:
        """Applies the overrides that come next, each once the bulk move before it is over."""
        while True:
            try:
                self._ready(most=None)
            except UnavailableError:
                if self.settle(AT_ONCE):
                    continue
            return

    def _drop_void(self) -> None:
        """Removes a plan unless it has begun; if the disk refuses that too, the next start does it."""
        with self._writer, suppress(StorageError):
            self._current()  # only this tells whether a write that the disk refused was made
            if self._moving is None:
                self._drop_plan()

    def _drop_plan(self) -> None:
        """Removes what was planned and never begun: nobody has read it."""
        self._void = True
        self._planning = None
        self._dropped += 1
        database, start = self._usable(), b""
        while rows := database.rows("planned", start, AT_ONCE):
            start = rows[-1][0] + b"\0"
            self._write(
                ("edges", ahead, None)
                for key, value in rows
                if (ahead := codec.decode_edge_key(value)) != _edge_now(database, key)
            )
        ahead = codec.encode_number(LiveReader(database).state().history_number + 1)
        start = ahead
        while rows := database.rows("history", start, AT_ONCE):
            start = rows[-1][0] + b"\0"
            entries = [codec.decode_history(key, value) for key, value in rows]
            self._write(("history_of", codec.edge_key(each.image_id, each.number), None) for each in entries)
        planned = [KeyRange(family, b"", AFTER_ALL) for family in PLAN if database.rows(family, b"", 1)]
        if planned:
            dropped = min(ahead, database.get(META, DROPPED) or ahead)
            self._write([(META, DROPPED, dropped)], [*planned, KeyRange("history", ahead, AFTER_ALL)])
        self._read_through_bulk(False)

    def _override_in_bulk(self, request: OverrideRequest, at_ms: int, *, dry_run: bool) -> OverrideOutcome:
        if not self._planner.acquire(blocking=False):
            raise UnavailableError(
                "another bulk move is being planned: `neardup operations list` says how far it is", 5
            )
        try:
            for attempt in range(1, TRIES + 1):
                with ExitStack() as held:
                    if attempt == TRIES:
                        held.enter_context(self._writer)
                    outcome = self._plan_and_begin(request, at_ms, dry_run=dry_run)
                if outcome is not None:
                    return outcome
                log.warning("the stream has met the bulk move that is planned: it is planned again")
            raise AssertionError("the stream has met a move that it waits for")
        finally:
            self._planning = None
            self._planner.release()

    def _plan_and_begin(self, request: OverrideRequest, at_ms: int, *, dry_run: bool) -> OverrideOutcome | None:
        """Plans a move and begins it; None: something has met the plan."""
        with self._writer:
            self._ready()
            self._check_settled()
        with self.snapshot() as view:
            found = self._checked(view, request, at_ms)
            if isinstance(found, OverrideOutcome):
                return found
            override, rules = found
            if request.rollback is not None:
                assert override.rollback is not None
                until = latest_point(view.state(), self._applied_after)
                override = replace(override, rollback=replace(override.rollback, until=until))
            plan = self._plan(view, rules, override, again=False)
            if dry_run:
                return _trial(override, plan.moves())
            try:
                draft = self._drafted(view, override, rules, plan)
                with self._writer:
                    begun = draft is not None and self._begin(draft, again=False)
            finally:
                self._drop_void()
        if draft is None or not begun:
            return None
        moves = tuple(draft.listed)
        return OverrideOutcome(draft.override, moves, created=True, unlisted=draft.total - len(moves))

    def _apply_in_bulk(self, override: Override) -> None:
        self._check_settled()
        self._drop_plan()
        with self.snapshot() as view:
            rules = self._book.rules.with_(override)
            draft = self._drafted(view, override, rules, self._plan(view, rules, override, again=True))
        begun = draft is not None and self._begin(draft, again=True)
        assert begun  # nobody else has written
        self._planning = None

    def _plan(self, view: StoreView, rules: Rules, override: Override, *, again: bool) -> WishPlan:
        if override.rollback is not None:
            return RollbackPlan(view, self._book.rules, override, self._applied_after)
        if override.kind in (OverrideKind.SPLIT, OverrideKind.FORBID):
            return PartingPlan(view, rules, override, again=again)
        return ClusterPlan(view, rules, override, again=again)

    def _drafted(self, view: StoreView, override: Override, rules: Rules, plan: WishPlan) -> _Draft | None:
        """Writes a plan ahead; None: it has become void meanwhile."""
        with self._writer:
            self._check_settled()  # a forget may have come first
            self._void = self._cancelled = False
            self._planning = Operation(
                self._next_operation(), OperationState.PLANNING, 0, 0, 0, self._now_ms(), override=override.number
            )
            draft = _Draft(self._planning, override, rules, plan, view.state().history_number)
            self._read_through_bulk(True)
        moves = plan.moves()
        begun = time.monotonic()
        while some := list(islice(moves, AT_ONCE)):
            if not self._write_ahead(draft, some):
                return None
            self._planning = replace(draft.planning, total=draft.total)
            begun = _rested(begun)
        heads = iter(draft.deltas.by)
        while each := list(islice(heads, AT_ONCE)):
            with self._writer:
                self._current()
                if self._void:
                    return None
                self._write_deltas(draft, each)
            begun = _rested(begun)
        draft.deltas.close()
        return draft

    def _write_ahead(self, draft: _Draft, moves: Sequence[PlannedMove]) -> bool:
        """Writes some moves where nobody reads them; False: the plan is void."""
        with self._writer:
            state = self._current()[0]
            if self._cancelled:
                raise BadInputError(f"the bulk move {draft.planning.number} was cancelled: nothing has moved")
            if self._void:
                return False
            sequence = state.history_number + state.ahead
            writes: list[Write] = []
            for image, after in moves:
                sequence += 1
                stays = after.head == image.head
                placed = replace(after, edge_sequence=image.edge_sequence if stays else sequence)
                key = codec.image_key(image.image_id)
                writes.append(("planned", key, codec.encode_image(placed)))
                if not stays:
                    writes.append(("edges", codec.edge_key(after.head, sequence), key))
            ahead = replace(state, ahead=state.ahead + len(moves))
            self._write([*writes, (META, STATE, state_codec.encode_state(ahead))])
        draft.add(moves)
        return True

    def _write_deltas(self, draft: _Draft, heads: Iterable[ImageId]) -> None:
        of = draft.deltas.of
        self._write([("deltas", codec.image_key(head), codec.encode_delta(of(head))) for head in heads])

    def _begin(self, draft: _Draft, *, again: bool) -> bool:
        """Makes everybody see a move, with what came since it was planned; False: that meets it."""
        state = self._current()[0] if again else self._ready()[0]
        if self._void or (not again and self._book.last + 1 != draft.override.number):
            return False
        with self.snapshot() as view:
            joined = self._joined_since(view, draft)
            if joined is None:
                return False
            if joined:
                self._write_ahead(draft, joined)
                self._write_deltas(draft, {head for move in joined for head in (move.image.head, move.after.head)})
        state = self._current()[0]
        override = draft.override
        if not again:
            override = draft.override = replace(override, applied_after=state.position.offset)
            self._keep_new(state, override)
        if not draft.total:  # so it is one write, as if it had named few images
            self._book.apply(override, draft.rules)
            self._commit_override(state, override, Changes(state))
            self._read_through_bulk(False)
            return True
        # One history entry says at which number the move was made.
        rows = self._usable().rows("planned", b"", 1)
        moving = Operation(
            number=draft.planning.number,
            state=OperationState.MOVING,
            total=draft.total,
            moved=len(rows),
            first=state.history_number + 1,
            started_ms=self._now_ms(),
            override=override.number,
        )
        changes = self._settling(state, override, [key for key, _ in rows])
        self._book.apply(override, draft.rules)
        more = draft.deltas.founded - len(draft.deltas.emptied)
        changes.state = self._after_override(changes.state, override)
        changes.state = replace(changes.state, clusters=changes.state.clusters + more)
        self._commit_told(changes, lambda told: self._commit_with(told, begun_with(moving)))
        self._moving = moving
        self._next_row = rows[-1][0] + b"\0" if rows else b""
        log.info("the bulk move %d has begun: %d images", moving.number, draft.total)
        return True

    def _joined_since(self, view: StoreView, draft: _Draft) -> list[PlannedMove] | None:
        """The images that have joined clusters that move; None: something else has met the plan."""
        joined: dict[ImageId, ImageId] = {}
        deltas = draft.deltas.by
        for entry in view.history_from(draft.seen):
            key = codec.image_key(entry.image_id)
            leaves = entry.old_head not in (None, entry.new_head)
            if (
                not entry.is_of_order
                or entry.image_id in deltas
                or entry.image_id in draft.plan.roots.wishes
                or (leaves and entry.old_head in deltas)
                or draft.rules.of(entry.image_id)
                != NO_RULES  # the planned override's too: an image may come that it names
                or self._usable().get("planned", key) is not None
            ):
                return None
            joined[entry.image_id] = entry.new_head
        draft.plan.follow(view)
        if any(head in draft.deltas.emptied and draft.plan.roots.of(head) == head for head in joined.values()):
            return None  # what was to be empty is not
        return [move for image_id in joined if (move := draft.plan.follower(image_id)) is not None]

    def _settle_touched(self, changes: Changes) -> bool:
        if self._moving is None:
            return False
        database = self._usable()
        images = [key for each in changes.images if database.get("planned", key := codec.image_key(each)) is not None]
        heads = [key for each in changes.clusters if database.get("deltas", key := codec.image_key(each)) is not None]
        if images:
            self._settle_images(self._current()[0], images)
        if heads:
            self._settle_clusters(self._current()[0], heads, last=False)
        return bool(images or heads)

    def _settle_images(self, state: StoreState, keys: Sequence[bytes]) -> None:
        moving = self._moving
        assert moving is not None  # there are planned images
        override = None if moving.override is None else self._book.get(moving.override)
        changes = self._settling(state, override, keys)
        moving = replace(moving, moved=moving.moved + len(keys))
        self._commit_told(changes, lambda told: self._commit_with(told, [noted(moving)]))
        self._moving = moving

    def _settling(self, state: StoreState, override: Override | None, keys: Iterable[bytes]) -> Changes:
        database, changes = self._usable(), Changes(state)
        moves: list[PlannedMove] = []
        for key in keys:
            value, planned = database.get("images", key), database.get("planned", key)
            if value is None or planned is None:
                raise CorruptedError(f"the image {key!r} moves, and is gone")
            move = PlannedMove(codec.decode_image(key, value), codec.decode_image(key, planned))
            moves.append(move)
        settle_images(changes, override, moves)
        return changes

    def _settle_clusters(self, state: StoreState, keys: Iterable[bytes], *, last: bool) -> None:
        """Rewrites clusters; after all the images, `last`, nothing of those that are empty is left."""
        moving, database, changes = self._moving, self._usable(), Changes(state)
        assert moving is not None  # there are deltas
        found: list[tuple[ImageId, ClusterRecord | None, ClusterRecord | None]] = []
        for key in keys:
            value, delta = database.get("clusters", key), database.get("deltas", key)
            assert delta is not None  # its key was found
            before = None if value is None else codec.decode_cluster(key, value)
            change, head = codec.decode_delta(key, delta), ImageId(key.decode())
            found.append((head, before, change.applied(before)))
            if change.by < -COMPACTED:
                self._left.append(head)
        settle_clusters(changes, moving.first, found)
        empty = [head for head, _, after in found if after is None] if last else []
        self._commit_told(changes, lambda told: self._commit_with(told, (), map(_edges_of, empty)))

    def _end(self, state: StoreState, moving: Operation) -> None:
        done = replace(moving, state=OperationState.DONE, moved=moving.total, ended_ms=self._now_ms())
        changes = Changes(replace(state, revision=state.revision + 1))
        self._commit_told(changes, lambda told: self._commit_with(told, [(META, BULK, None), noted(done)]))
        self._moving = None
        self._read_through_bulk(False)
        log.info("the bulk move %d is over: %d images", done.number, done.total)

    def _compact(self) -> None:
        """Removes what many members have left behind, so that no page reads past it."""
        for each in [*map(_edges_of, self._left), *(KeyRange(family, b"", AFTER_ALL) for family in PLAN)]:
            self._usable().compact(each)
        self._left.clear()

    def _note(self, moving: Operation) -> None:
        self._write([noted(moving)])
        self._moving = moving

    def _next_operation(self) -> int:
        number = 1
        while rows := self._usable().rows("operations", codec.encode_number(number), AT_ONCE):
            number = codec.decode_number("the bulk moves", rows[-1][0]) + 1
        return number

    def _of(self, number: int) -> Operation:
        if self._moving is None or self._moving.number != number:
            raise BadInputError(f"no bulk move {number} is under way")
        return self._moving

    def _check_settled(self) -> None:
        if self._moving is not None:
            raise UnavailableError(f"the bulk move {self._moving.number} is under way: wait until it is over", 1.0)


class _Draft:
    """A move that is planned."""

    def __init__(self, planning: Operation, override: Override, rules: Rules, plan: WishPlan, seen: int) -> None:
        self.planning = planning
        self.override = override
        self.rules = rules
        """Of the overrides that stand, this one included."""
        self.plan = plan
        self.seen = seen
        """The number of the last history entry that the plan knows."""
        self.deltas = Deltas(plan.cluster, plan.founding)
        self.total = 0
        self.listed: list[OverrideMove] = []

    def add(self, moves: Sequence[PlannedMove]) -> None:
        """Adds moves that are written ahead."""
        self.total += len(moves)
        for image, after in moves:
            self.deltas.add(image, after)
        self.listed += map(_told, moves[: MAX_LISTED_MOVES - len(self.listed)])


def _told(move: PlannedMove) -> OverrideMove:
    return OverrideMove(move.image.image_id, move.image.head, move.after.head)


def _trial(override: Override, moves: Iterator[PlannedMove]) -> OverrideOutcome:
    listed = tuple(map(_told, islice(moves, MAX_LISTED_MOVES)))
    return OverrideOutcome(override, listed, created=False, unlisted=sum(1 for _ in moves))


def noted(operation: Operation) -> Write:
    """How far a bulk move is."""
    return "operations", codec.encode_number(operation.number), encode_operation(operation)


def begun_with(operation: Operation) -> list[Write]:
    """What makes everybody see a bulk move."""
    return [(META, BULK, codec.encode_number(operation.number)), noted(operation)]


def _edges_of(head: ImageId) -> KeyRange:
    prefix = codec.edge_prefix(head)
    return KeyRange("edges", prefix, prefix + AFTER_ALL)


def _edge_now(database: Database, key: bytes) -> bytes | None:
    value = database.get("images", key)
    return None if value is None else codec.decode_edge_key(value)


def _rested(begun: float) -> float:
    """Leaves the stream its share of the time since then; returns the time now."""
    time.sleep(BREAK * (time.monotonic() - begun))
    return time.monotonic()
