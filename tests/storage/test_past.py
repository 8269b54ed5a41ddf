"""Heads and members as they were: after every entry of a random history, and by the clock of the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import Rdict

from core.checked_json import write_checked
from core.errors import BadInputError
from core.overrides import OverrideKind
from core.types import ImageId
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.past import head_at, members_at, number_at
from storage.rocks.options import RocksOptions, database_options, family_options
from storage.rocks.store import RocksStore
from storage.testing.decisions import A, B, C, deletes, fill, founds, joins, put
from storage.testing.model import Action, StoreModel, actions
from storage.testing.overrides import JOB, say


class Clock:
    """Tells what it is told to."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


def whole(store: ClusterStore) -> tuple[dict[ImageId, ImageId], dict[ImageId, list[ImageId]]]:
    """Heads, and members in their order."""
    with store.snapshot() as view:
        members: dict[ImageId, list[ImageId]] = {}
        for edge in view.edges():
            members.setdefault(edge.head, []).append(edge.member)
        return {image.image_id: image.head for image in view.images()}, members


@settings(deadline=None, max_examples=60)
@given(st.lists(actions, min_size=1, max_size=40), st.integers(1, 7))
def test_the_past_is_what_was(steps: list[Action], batch: int) -> None:
    store, model = MemoryStore(), StoreModel()
    seen = {0: whole(store)}
    for start in range(0, len(steps), batch):
        fill(store, model, steps[start : start + batch], batch)
        seen[store.state().history_number] = whole(store)
    everyone = {entry.image_id for entry in store.history(0, 10_000)}
    with store.snapshot() as view:
        for number, (heads, members) in seen.items():
            assert {each: head_at(view, each, number) for each in everyone} == {
                each: heads.get(each) for each in everyone
            }
            assert {
                head: members_at(view, head, number) for head in everyone if members_at(view, head, number)
            } == members


def test_times_are_those_of_the_store(tmp_path: Path) -> None:
    clock = Clock()
    rocks = RocksStore(tmp_path, options=RocksOptions(sync=False), now_ms=clock)
    stores: list[ClusterStore] = [MemoryStore(now_ms=clock), rocks]
    for ms, decision in (
        (5_000_500, founds(0, A)),
        (5_000_900, joins(1, B, A)),
        (4_000_000, joins(2, C, A)),  # the clock went back
        (7_000_000, deletes(3, B, A)),
    ):
        clock.ms = ms
        for store in stores:
            put(store, decision)
    for store in stores:
        with store.snapshot() as view:
            # 5,000 s is the second in which the first three were written.
            assert [number_at(view, ms) for ms in (5_000_000, 5_000_999, 5_001_000, 6_999_999, 7_000_000, 2**70)] == [
                3,
                3,
                3,
                3,
                4,
                4,
            ]
            assert members_at(view, A, number_at(view, 6_000_000)) == [A, B, C]
            assert members_at(view, A, number_at(view, 8_000_000)) == [A, C]
            assert head_at(view, B, number_at(view, 6_000_000)) == A
            assert head_at(view, B, number_at(view, 7_000_000)) is None
    rocks.close()
    clock.ms = 0
    rocks = RocksStore(tmp_path, options=RocksOptions(sync=False), now_ms=clock)
    put(rocks, founds(4, B, version=2))
    with rocks.snapshot() as view:
        assert number_at(view, 7_000_000) == 5
    rocks.close()


def test_before_the_first_moment_decisions_tell_the_time() -> None:
    clock = Clock()
    store = MemoryStore(now_ms=clock)
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A))
    with store.snapshot() as view:
        # They were decided at 30, 31 and 32 ms, and written at 1,000 s.
        assert [number_at(view, ms) for ms in (29, 30, 31, 999_999, 1_000_000)] == [0, 1, 2, 3, 3]
    clock.ms = 2_000_000
    put(store, deletes(3, B, A))
    with store.snapshot() as view:
        # What was written later counts from its second on, whenever it was decided.
        assert [number_at(view, ms) for ms in (31, 999_999, 1_999_999, 2_000_000)] == [2, 3, 3, 4]


def test_too_many_changes_are_not_read() -> None:
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A))
    with store.snapshot() as view:
        assert members_at(view, A, 1, most=2) == [A]
        with pytest.raises(BadInputError, match="3 changes came since"):
            members_at(view, A, 0, most=2)


def test_a_store_of_the_release_before_gets_moments(tmp_path: Path) -> None:
    """Its database has no family for them. Decisions tell the time of what it holds, and the clock that of the rest."""
    clock, quick = Clock(), RocksOptions(sync=False)
    store = RocksStore(tmp_path, options=quick, now_ms=clock)
    put(store, founds(0, A), joins(1, B, A))
    store.close()
    database = Rdict(str(tmp_path / "db"), database_options(quick, create=False), family_options(quick))
    database.drop_column_family("moments")
    database.close()
    write_checked(tmp_path / "store.json", 4, {"identity": "", "database": "db"})
    for _ in range(2):
        store = RocksStore(tmp_path, options=quick, now_ms=clock)
        with store.snapshot() as view:
            # They were decided at 30 and 31 ms.
            assert [number_at(view, ms) for ms in (29, 30, 31, 10**9)] == [0, 1, 2, 2]
            assert (view.moment(10**9), view.last_second()) == (None, 0)
            assert members_at(view, A, number_at(view, 30)) == [A]
        store.close()
    store = RocksStore(tmp_path, options=quick, now_ms=clock)
    put(store, joins(2, C, A))
    with store.snapshot() as view:
        assert (view.moment(999), view.moment(1_000), view.last_second()) == (None, 3, 1_000)
        assert members_at(view, A, number_at(view, 1_000_000)) == [A, B, C]
    store.close()


@pytest.mark.parametrize("again", [False, True])
def test_overrides_belong_to_the_past(tmp_path: Path, again: bool) -> None:
    """Also after the store was opened again."""
    clock = Clock()
    store = RocksStore(tmp_path, options=RocksOptions(sync=False), now_ms=clock)
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), kinds=JOB)
    clock.ms = 2_000_000
    say(store, OverrideKind.FORBID, B, target=A)
    if again:
        store.close()
        store = RocksStore(tmp_path, options=RocksOptions(sync=False), now_ms=clock)
    with store.snapshot() as view:
        before, after = number_at(view, 1_999_999), number_at(view, 2_000_000)
        assert (head_at(view, B, before), head_at(view, B, after)) == (A, B)
        assert (members_at(view, A, before), members_at(view, A, after)) == ([A, B, C], [A, C])
        assert (members_at(view, B, before), members_at(view, B, after)) == ([], [B])
    store.close()
