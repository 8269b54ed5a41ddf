"""Heads with very many members that are forgotten, step by step: what one write does, whenever the store is killed."""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from core.errors import BadInputError, StaleError, UnavailableError
from core.overrides import JOB_KINDS, MAX_FORBIDDEN, OverrideKind, OverrideRequest
from core.pseudonyms import KEY_BYTES, Pseudonyms
from core.types import Cause, ImageId
from storage.bulk.operations import Operation, OperationState
from storage.erasing import Eraser
from storage.memory import MemoryStore
from storage.records import ErasureState
from storage.rocks import bulk_forgets, bulk_store
from storage.rocks.database import KeyRange, Write
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.decisions import LOG, A, B, C, D, forgets, founds, joins, put
from storage.testing.forgetting import assert_erased, erase_all
from tests.clustering.test_assignment_properties import FORGETTING_WORLDS
from tests.clustering.test_bulk_moves_on_stores import seen, settle_all
from tests.clustering.test_every_write import Killed, KilledError
from tests.clustering.test_overrides_on_stores import content, decide
from tests.storage.rocks.test_forgetting import files_with
from tests.support.cluster_world import World

QUICK = RocksOptions(sync=False)

FIND = (Phase.explicit, Phase.reuse, Phase.generate)
"""Worlds are not made smaller: it takes minutes, and their seeds say as much."""

SAME_KEY = patch.object(Pseudonyms, "fresh", lambda: Pseudonyms(bytes(KEY_BYTES)))
"""Else each store has a key of its own."""

ONE_BY_ONE = patch.object(bulk_forgets, "AHEAD_AT_ONCE", 1)

J, K = ImageId("j"), ImageId("k")
MEMBERS = [ImageId(each) for each in "bcdefghi"]


class Interrupted(RocksStore):
    """A store in which something happens before each write."""

    between: Callable[[], object] = staticmethod(lambda: None)

    def _write(self, writes: Iterable[Write], ranges: Iterable[KeyRange] = ()) -> None:
        self.between()
        super()._write(writes, ranges)


def fill(store: RocksStore | MemoryStore) -> None:
    """a with its members b to i; j and k alone."""
    put(store, founds(0, A), *(joins(1 + n, each, A) for n, each in enumerate(MEMBERS)), kinds=JOB_KINDS)
    put(store, founds(9, J), founds(10, K), kinds=JOB_KINDS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Interrupted]:
    store = Interrupted(tmp_path, options=QUICK, moves_at_once=0)
    fill(store)
    yield store
    store.close()


@pytest.fixture
def plain() -> MemoryStore:
    """What one write does."""
    store = MemoryStore()
    fill(store)
    return store


def under_way(store: RocksStore) -> Operation:
    """The last bulk move."""
    return store.operations(0, 100)[-1]


@SAME_KEY
def test_readers_see_the_whole_forget_from_its_first_step(store: Interrupted, plain: MemoryStore) -> None:
    revision = store.state().revision
    heard: list[int] = []
    for each in (store, plain):
        each.on_rename(heard.append)
        put(each, forgets(11, A, A), kinds=JOB_KINDS)
    assert heard == [8, 8]
    assert store.state() == plain.state()
    assert (store.state().revision, store.position().offset) == (revision, 11)
    while True:
        assert content(store) == content(plain)
        if not store.settle(2):
            break
    operation = under_way(store)
    assert (operation.number, operation.override, operation.position) == (1, None, 11)
    assert (operation.state, operation.total, operation.moved) == (OperationState.DONE, 8, 8)
    assert heard == [8, 8]
    assert store.history(operation.first - 1, 1)[0].cause is Cause.RENAMED
    assert store.state().revision == revision + 1


def test_many_forbidden_images_are_where_the_forget_brings_them_from_its_first_step(store: Interrupted) -> None:
    unseen = tuple(ImageId(f"x{number}") for number in range(MAX_FORBIDDEN))
    store.override(OverrideRequest(OverrideKind.FORBID, (J,), K), 7)
    store.override(OverrideRequest(OverrideKind.PIN, unseen, J), 7)
    settle_all(store)
    store.override(OverrideRequest(OverrideKind.FORBID, unseen, K), 7)
    put(store, joins(11, unseen[0], A), kinds=JOB_KINDS)
    assert store.look_up([K, B]).rules[K].forbidden == unseen[:1]
    put(store, forgets(12, A, A), kinds=JOB_KINDS)
    assert store.look_up([K, B]).rules[K].forbidden == unseen[:1]
    assert store.look_up([K, B]).rule_heads == {unseen[0]: B}


@SAME_KEY
@ONE_BY_ONE
def test_nobody_sees_the_plan(store: Interrupted, caplog: pytest.LogCaptureFixture) -> None:
    before, history = seen(store), store.history(0, 100)
    planned: list[int] = []

    def between() -> None:
        assert (seen(store), store.history(0, 100)) == (before, history)
        with store.snapshot() as view:
            assert view.history_entry(len(history) + 1) is None
            assert len(list(view.history_of(B))) == 1
        assert store.members(A, 100).items == (A, *MEMBERS)
        planned.extend(each.total for each in store.operations(0, 9) if each.state is OperationState.PLANNING)
        with pytest.raises(BadInputError, match="it cannot be cancelled"):
            store.cancel(1)
        with pytest.raises(UnavailableError, match="the stream waits until the bulk move 1 is planned"):
            put(store, founds(11, ImageId("x")), kinds=JOB_KINDS)

    store.between = between
    with caplog.at_level(logging.INFO), patch.object(bulk_forgets, "TOLD_EVERY", 4):
        put(store, forgets(11, A, A), kinds=JOB_KINDS)
    assert planned == list(range(1, 9))
    assert "the stream waits until the bulk move 1 of 8 images is planned" in caplog.text
    assert "of the bulk move 1, 4 images of 8 are planned" in caplog.text
    store.between = lambda: None
    assert seen(store) != before


@SAME_KEY
def test_a_batch_is_applied_in_parts(store: Interrupted, plain: MemoryStore) -> None:
    batch = [joins(11, D, A, old=A, version=2), forgets(12, A, A), founds(13, A, version=2), forgets(14, B, B)]
    offset, revision = store.position().offset, store.state().revision
    for each in (store, plain):
        put(each, *batch, joins(15, K, C, old=K, version=2), kinds=JOB_KINDS)
    assert content(store) == content(plain)
    assert [(each.position, each.state) for each in store.operations(0, 9)] == [
        (12, OperationState.DONE),  # the next one had to wait for it
        (14, OperationState.MOVING),
    ]
    with pytest.raises(StaleError) as told:  # so that who repeats it skips what is applied
        store.apply(LOG, batch, offset, revision, JOB_KINDS)
    assert told.value.offset == 15


def test_a_part_that_does_not_fit_leaves_those_before_it(store: Interrupted) -> None:
    with pytest.raises(Exception, match="does not fit"):
        put(store, founds(11, ImageId("x")), forgets(12, A, A), joins(13, K, A, old=K, version=2), kinds=JOB_KINDS)
    assert store.position().offset == 12
    with pytest.raises(Exception, match="does not fit"):
        put(store, forgets(13, B, J), kinds=JOB_KINDS)
    assert store.operations(0, 9)[-1].number == 1
    assert store.position().offset == 12


def test_a_forget_of_few_is_one_write(tmp_path: Path) -> None:
    with closing(RocksStore(tmp_path, options=QUICK, moves_at_once=8)) as store:
        fill(store)
        put(store, forgets(11, A, A), kinds=JOB_KINDS)
        assert store.operations(0, 9) == []
        put(store, joins(12, J, B, old=J, version=2), joins(13, K, B, old=K, version=2), forgets(14, B, B))
        assert under_way(store).total == 9


def test_a_move_that_rests_is_settled_first(store: Interrupted) -> None:
    store.override(OverrideRequest(OverrideKind.MERGE, (A,), J), 7)
    store.pause(1, rests=True)
    put(store, forgets(11, J, J), kinds=JOB_KINDS)
    assert [each.state for each in store.operations(0, 9)] == [OperationState.DONE, OperationState.MOVING]
    assert store.members(A, 100).items == (A, *MEMBERS)
    with pytest.raises(UnavailableError, match="the bulk move 2 is under way"):
        store.override(OverrideRequest(OverrideKind.MERGE, (K,), A), 7)
    settle_all(store)
    store.override(OverrideRequest(OverrideKind.MERGE, (K,), A), 7)
    operation = under_way(store)
    assert (operation.number, operation.override, operation.position) == (3, 2, None)


def test_a_forget_that_has_begun_is_seen_whatever_is_planned(
    store: Interrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes just after a part of a plan of the same number was written."""
    write_ahead, told = store._write_ahead, list[Operation]()

    def write(*args: Any) -> bool:
        written = write_ahead(*args)
        put(store, forgets(11, A, A), kinds=JOB_KINDS)
        return written

    def rested(begun: float) -> float:
        told.append(under_way(store))
        with pytest.raises(BadInputError, match="no bulk move 1 is being planned"):
            store.cancel(1)
        return begun

    monkeypatch.setattr(store, "_write_ahead", write)
    monkeypatch.setattr(bulk_store, "_rested", rested)
    with pytest.raises(UnavailableError, match="the bulk move 1 is under way"):
        store.override(OverrideRequest(OverrideKind.MERGE, (A,), J), 7)
    assert [(each.state, each.position) for each in told] == [(OperationState.MOVING, 11)]


def test_a_plan_becomes_void(store: Interrupted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forget comes while a merge is planned: nothing of that plan is left."""
    write_ahead, forgotten = store._write_ahead, iter([forgets(11, A, A)])

    def write(*args: Any) -> bool:
        for each in forgotten:
            put(store, each, kinds=JOB_KINDS)
            assert (under_way(store).state, under_way(store).position) == (OperationState.MOVING, 11)
        return write_ahead(*args)

    monkeypatch.setattr(store, "_write_ahead", write)
    with pytest.raises(UnavailableError, match="the bulk move 1 is under way"):
        store.override(OverrideRequest(OverrideKind.MERGE, (A,), J), 7)
    for _ in range(2):
        assert store.members(B, 100).items == tuple(MEMBERS)
        assert store.members(J, 100).items == (J,)
        settle_all(store)
    assert (store.overrides(0, 9), len(store.operations(0, 9))) == ([], 1)


def test_an_override_that_is_late_begins_no_plan_over_it(store: Interrupted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forget begins between the moment that a merge reads and its first write."""
    drafted, forgotten = store._drafted, iter([forgets(11, A, A)])

    def draft(*args: Any) -> Any:
        for each in forgotten:
            put(store, each, kinds=JOB_KINDS)
        return drafted(*args)

    monkeypatch.setattr(store, "_drafted", draft)
    with pytest.raises(UnavailableError, match="the bulk move 1 is under way"):
        store.override(OverrideRequest(OverrideKind.MERGE, (J,), K), 7)
    for _ in range(2):
        assert store.members(B, 100).items == tuple(MEMBERS)
        settle_all(store)


def test_nothing_is_erased_before_the_move_is_over(store: Interrupted) -> None:
    put(store, forgets(11, A, A), kinds=JOB_KINDS)
    through = store.state().history_number
    eraser = Eraser(store, waits_for_publisher=False)
    assert not eraser.step()
    put(store, joins(12, A, B, version=2), founds(13, C, old=B, version=2), kinds=JOB_KINDS)
    settle_all(store)
    while eraser.step():
        pass
    with store.snapshot() as view:
        (erasure,) = view.erasures()
        assert (erasure.state, erasure.through) == (ErasureState.DONE, through)
        assert [entry.number for entry in view.history_of(A)] == [through + 1]


def named(number: int) -> ImageId:
    return ImageId(f"image-{number:06}")


SECRET = ImageId("the-image-nobody-may-know")


@ONE_BY_ONE
@pytest.mark.parametrize("left", range(12))
def test_no_file_holds_it_after_a_kill_and_once_it_is_erased(tmp_path: Path, left: int) -> None:
    """What is said after the kill takes numbers that the plan had."""
    store = Killed(tmp_path, moves_at_once=0)
    put(store, founds(0, SECRET), *(joins(n, named(n), SECRET) for n in range(1, 9)), founds(9, J), kinds=JOB_KINDS)
    store.left = left
    with suppress(KilledError):
        put(store, forgets(10, SECRET, SECRET), kinds=JOB_KINDS)
        settle_all(store)
    assert store.left == 0
    store.left = None
    store.close()
    with closing(RocksStore(tmp_path, moves_at_once=0)) as again:
        begun = again.position().offset == 10
        assert begun is (left > 7)
        if not begun:
            seen(again)
            assert again.members(SECRET, 9).items == (SECRET, *map(named, range(1, 9)))
            assert again.operations(0, 9) == []
            again.override(OverrideRequest(OverrideKind.PIN, (named(8),), J), 7)
            settle_all(again)
            put(again, forgets(10, SECRET, SECRET), kinds=JOB_KINDS)
        assert files_with(tmp_path, SECRET.encode())
        settle_all(again)
        erase_all(again)
        assert_erased(again, SECRET)
        assert files_with(tmp_path / "db", SECRET.encode()) == {}


@settings(max_examples=60, deadline=None, phases=FIND)
@given(world=FORGETTING_WORLDS, seed=st.integers(0, 10**6))
@SAME_KEY
@ONE_BY_ONE
def test_every_step_and_every_kill_leaves_what_one_write_does(world: World, seed: int) -> None:
    """Records, sequences and history numbers are the same, whenever somebody looks."""
    dice, plain, until = random.Random(seed), MemoryStore(), 0
    with tempfile.TemporaryDirectory() as folder:

        def opened() -> Killed:
            return Killed(Path(folder), options=QUICK, moves_at_once=0)

        def alive(act: Callable[[], object]) -> None:
            nonlocal rocks
            rocks.left = dice.choice([None, *range(10)])
            try:
                act()
            except KilledError:
                rocks.left = None
                rocks.close()
                rocks = opened()
                seen(rocks)
            rocks.left = None

        def decide_on(until: int) -> None:
            decide(world, rocks, until, lambda: dice.choice([1, 5, 64]))

        rocks = opened()
        try:
            while until < len(world.log):
                until = min(len(world.log), until + dice.randrange(1, 9))
                decide(world, plain, until, lambda: 1)
                alive(partial(decide_on, until))
                decide_on(until)
                assert content(rocks) == content(plain)
                for _ in range(dice.randrange(4)):
                    alive(lambda: rocks.settle(dice.randrange(1, 4)))
                    assert content(rocks) == content(plain)
                if dice.random() < 0.2:
                    settle_all(rocks)
                    for each in (plain, rocks):
                        erase_all(each)
                    assert content(rocks) == content(plain)
        finally:
            rocks.close()
