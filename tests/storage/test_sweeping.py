"""A store whose old history was swept, beside its twin that keeps all: it tells the same, or refuses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInputError
from core.overrides import OverrideKind, OverrideRequest, RollbackRequest
from core.types import Cause, ImageId, Lookup, Move
from storage.arrivals import earliest_arrival
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.overrides.affected import affected, moves_are_kept
from storage.past import PastUnknownError, head_at, members_at, number_at, number_before
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.sweeping import sweepable
from storage.testing.decisions import A, B, C, D, assert_holds, decided, deletes, fill, founds, joins, put
from storage.testing.model import LOG, Action, StoreModel, actions, seeded_actions
from storage.testing.overrides import JOB, say
from storage.unscored import unscored_after
from storage.verify import verify
from storage.written import look_up_before, written_at

T = TypeVar("T")


class Clock:
    """Tells what it is told to."""

    def __init__(self, second: int = 1_000) -> None:
        self.second = second

    def __call__(self) -> int:
        return self.second * 1000


def sweep(store: ClusterStore, before: int, limit: int = 1_000) -> None:
    """Publishes everything, and sweeps."""
    store.set_published(store.state().history_number)
    while store.sweep_history(before, limit):
        pass


def twins(steps: list[Action], share: float) -> tuple[MemoryStore, MemoryStore]:
    """The same life twice; of the second one, a share of the history is swept."""
    whole, swept = MemoryStore(), MemoryStore()
    for store in (whole, swept):
        fill(store, StoreModel(), steps, 3)
    sweep(swept, 1 + int(share * swept.state().history_number), 4)
    return whole, swept


def known(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except PastUnknownError:
        return None


STEPS = st.lists(actions, min_size=1, max_size=40)


@settings(deadline=None, max_examples=80)
@given(STEPS, st.floats(0, 1))
def test_the_past_since_then_is_what_was(steps: list[Action], share: float) -> None:
    whole, swept = twins(steps, share)
    first, last = swept.state().history_first, swept.state().history_number
    everyone = {entry.image_id for entry in whole.history(0, 10_000)}
    with whole.snapshot() as all_of, swept.snapshot() as rest:
        kept = {entry.image_id for entry in rest.history_from(0)}
        for number in range(last + 1):
            for each in everyone:
                if number < first - 1:
                    with pytest.raises(PastUnknownError, match=f"kept from number {first} on"):
                        head_at(rest, each, number)
                    with pytest.raises(PastUnknownError, match=f"kept from number {first} on"):
                        members_at(rest, each, number)
                    continue
                assert head_at(rest, each, number) == head_at(all_of, each, number)
                told, expected = members_at(rest, each, number), members_at(all_of, each, number)
                assert sorted(told) == sorted(expected)
                # Those that did not leave since keep their order.
                assert [x for x in told if x not in kept] == [x for x in expected if x not in kept]


@settings(deadline=None, max_examples=80)
@given(STEPS, st.floats(0, 1))
def test_what_records_wrote_is_told_as_before_or_refused(steps: list[Action], share: float) -> None:
    whole, swept = twins(steps, share)
    first = swept.state().history_first
    with whole.snapshot() as all_of, swept.snapshot() as rest:
        entries = list(all_of.history_from(0))
        everyone = list(dict.fromkeys(entry.image_id for entry in entries))
        for entry in entries:
            expected = written_at(all_of, entry.image_id, entry.offset, everyone)
            told = known(lambda entry=entry: written_at(rest, entry.image_id, entry.offset, everyone))
            if told is None:
                continue
            assert (told.first_number, told.moves, told.place) == (
                expected.first_number,
                expected.moves,
                expected.place,
            )
            assert told.first_number >= first
            same_lookup(told.before, expected.before)
        for entry in entries[first - 1 :]:
            for each in everyone:
                before = known(lambda entry=entry, each=each: look_up_before(rest, [each], entry.number))
                if before is not None:
                    same_lookup(before, look_up_before(all_of, [each], entry.number))


def same_lookup(told: Lookup, expected: Lookup) -> None:
    """Only a founding code may be missing, as of a cluster that was never made."""
    assert told.memberships == expected.memberships
    assert told.clusters.keys() == expected.clusters.keys()
    for head, cluster in told.clusters.items():
        assert (cluster.count, cluster.head_deleted) == (
            expected.clusters[head].count,
            expected.clusters[head].head_deleted,
        )
        assert cluster.founding_code in (b"", expected.clusters[head].founding_code)


def test_members_whose_joining_is_not_kept_come_where_they_may_have_joined() -> None:
    """Of a, b, c, d the joins of the first three are swept. Then b leaves, d leaves, and a is deleted."""
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), joins(3, D, A))
    sweep(store, 4)
    put(store, founds(4, B, old=A, version=2), deletes(5, D, A), deletes(6, A, A))
    with store.snapshot() as view:
        assert [members_at(view, A, number) for number in range(3, 8)] == [
            [A, C, B],
            [A, C, B, D],
            [A, C, D],
            [A, C],
            [C],
        ]


@settings(deadline=None, max_examples=80)
@given(STEPS, st.floats(0, 1), st.integers(0, 60))
def test_heads_that_are_brought_back_are_the_same_or_it_is_refused(
    steps: list[Action], share: float, back: int
) -> None:
    whole, swept = twins(steps, share)
    first, to = swept.state().history_first, max(0, swept.state().history_number - back)
    request = OverrideRequest(OverrideKind.ROLLBACK, rollback=RollbackRequest(to_change=to))
    for store in (whole, swept):
        store.apply(LOG, (), store.position().offset, 0, JOB)
    if 1 < first > to:
        with pytest.raises(BadInputError, match=r"are kept|not kept any more"):
            swept.override(request, 99)
        return
    for store in (whole, swept):
        store.override(request, 99)
    found = []
    for store in (whole, swept):
        with store.snapshot() as view:
            assert [progress.problems for progress in verify(view)][-1] == ()
            heads = {each.image_id: each.head for each in view.images()}
            found.append((heads, {each.head: (each.count, each.founding_code) for each in view.clusters()}))
    assert found[0] == found[1]


def test_what_the_next_change_tells_is_not_refused() -> None:
    """`b` founds, then `c` joins `a` and takes `b` along. What was so before that is told by the move of `b`."""
    store = MemoryStore()
    put(store, founds(0, A), founds(1, B), founds(2, D))
    put(store, decided(3, C, Move(C, None, A, Cause.MATCHED, 0.9, A), Move(B, B, A, Cause.ADOPTED, 0.8, C)))
    expected = told(store, C, 3, A, B, D)
    sweep(store, 4)
    assert store.state().history_first == 4
    with store.snapshot() as view, pytest.raises(PastUnknownError, match="position 3 wrote is not kept"):
        written_at(view, C, 3, [A, B, D])  # an earlier entry of the same record could have been swept
    with store.snapshot() as view:
        assert look_up_before(view, [C, A, B, D], 4).memberships == expected


def told(store: ClusterStore, image_id: ImageId, offset: int, *others: ImageId) -> object:
    with store.snapshot() as view:
        return written_at(view, image_id, offset, others).before.memberships


def test_a_version_of_then_that_nothing_tells_is_refused() -> None:
    store = MemoryStore()
    put(store, founds(0, A), founds(1, B), founds(2, C), joins(3, B, A, old=B, version=2))
    sweep(store, 3)
    with store.snapshot() as view:
        assert set(look_up_before(view, [A], 3).memberships) == {A}
        with pytest.raises(PastUnknownError, match="known of 'b' before history entry 3"):
            look_up_before(view, [A, B], 3)


@settings(deadline=None, max_examples=80)
@given(STEPS, st.floats(0, 1), st.integers(-1, 40), st.integers(1, 9))
def test_unscored_images_are_told_as_before(steps: list[Action], share: float, after: int, size: int) -> None:
    whole, swept = twins(steps, share)
    found = []
    for store in (whole, swept):
        places, through, complete = list[int](), after, False
        with store.snapshot() as view:
            while not complete:
                page = unscored_after(view, through, size)
                assert page.complete or page.through > through
                places, through, complete = places + list(page.places), page.through, page.complete
        found.append((places, through))
    assert found[0] == found[1]


def test_the_earliest_arrival_is_that_of_what_is_kept() -> None:
    store = MemoryStore()
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(9)])
    sweep(store, 5)
    with store.snapshot() as view:
        # They arrived at 20 to 28, and the first four entries are gone.
        assert [earliest_arrival(view, images) for images in (1, 3, 5, 6, 100)] == [28, 26, 24, 24, 24]


def test_what_an_override_moved_is_told_as_long_as_it_is_kept() -> None:
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), founds(2, C), founds(3, D), kinds=JOB)
    override = say(store, OverrideKind.MERGE, A, target=C).override
    put(store, founds(4, ImageId("e")), founds(5, ImageId("f")), kinds=JOB)
    sweep(store, 4)
    with store.snapshot() as view:
        assert moves_are_kept(view, override) is False  # the fourth entry has the same position
        assert set(affected(view, override)) == {A, B, C}
    sweep(store, 8)
    with store.snapshot() as view:
        assert moves_are_kept(view, override) is False
        assert set(affected(view, override)) == {A, C}
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), founds(2, C), kinds=JOB)
    override = say(store, OverrideKind.MERGE, A, target=C).override
    sweep(store, 2)
    with store.snapshot() as view:
        assert moves_are_kept(view, override)
        assert set(affected(view, override)) == {A, B, C}


def test_an_override_that_is_older_than_the_history_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), kinds=JOB)
    override = say(store, OverrideKind.FORBID, B, target=A).override
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(2, 60)], kinds=JOB)
    sweep(store, 10)
    read: list[int] = []
    with store.snapshot() as view:
        entries = list(view.history_from(0))
        monkeypatch.setattr(
            type(view),
            "history_from",
            lambda view, after: (read.append(each.number) or each for each in entries if each.number > after),
        )
        assert set(affected(view, override)) == {A, B}
    # One entry for each halving, and one that is too late.
    assert len(read) < 10


@pytest.fixture(params=["memory", "rocks"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Clock], ClusterStore]:
    if request.param == "memory":
        return lambda clock: MemoryStore(now_ms=clock)
    return lambda clock: RocksStore(tmp_path, options=RocksOptions(sync=False), now_ms=clock)


def test_the_past_is_known_from_a_second_on(make: Callable[[Clock], ClusterStore]) -> None:
    """Two entries each in the seconds 1,000, 2,000 and 3,000."""
    clock = Clock()
    store = make(clock)
    for n in range(3):
        clock.second = 1_000 * (n + 1)
        put(store, founds(2 * n, ImageId(f"i{n}")), founds(2 * n + 1, ImageId(f"j{n}")))
    seen = []
    for before in (2, 3, 4, 5, 6):
        sweep(store, before)
        with store.snapshot() as view:
            seen.append(list(view.seconds_from(0)))
            times = [1_000_000, 1_999_999, 2_000_000, 2_999_999, 3_000_000]
            assert [known(lambda view=view, ms=ms: number_at(view, ms)) for ms in times] == {
                2: [2, 2, 4, 4, 6],
                3: [2, 2, 4, 4, 6],
                4: [None, None, 4, 4, 6],
                5: [None, None, 4, 4, 6],
                6: [None, None, None, None, 6],
            }[before]
            assert number_before(view, 2_000_000) == max(2, before - 1)
            assert [progress.problems for progress in verify(view)][-1] == ()
    assert [each[0] for each in seen] == [(1_000, 2), (1_000, 2), (2_000, 4), (2_000, 4), (3_000, 6)]
    with store.snapshot() as view, pytest.raises(PastUnknownError, match="known from 1970-01-01T00:50:00Z on"):
        number_at(view, 0)
    store.close()


def test_what_is_old_enough(make: Callable[[Clock], ClusterStore]) -> None:
    """One entry each in the seconds 1,000, 2,000 and 3,000."""
    clock = Clock()
    store = make(clock)
    with store.snapshot() as view:
        assert sweepable(view, 10**9, 0) == 0
    for n in range(3):
        clock.second = 1_000 * (n + 1)
        put(store, founds(n, ImageId(f"i{n}")))
    with store.snapshot() as view:
        assert [sweepable(view, ms, 0) for ms in (999_999, 1_000_000, 1_999_999, 2_000_000, 10**9)] == [0, 2, 2, 3, 4]
        assert [sweepable(view, 10**9, keep) for keep in (1, 2, 3)] == [3, 2, 1]
    store.close()


def test_a_store_that_is_opened_again_is_swept_as_it_was(tmp_path: Path) -> None:
    store, model = RocksStore(tmp_path, "swept"), StoreModel()
    fill(store, model, seeded_actions(31, 300, ids=30), 16)
    last = len(model.history)
    store.set_published(last)
    while store.sweep_history(last - 10, 13):
        first = store.state().history_first
        with store.snapshot() as view:
            kept = (list(view.history_from(0)), list(view.seconds_from(0)), list(view.swept_unscored(-1)))
        store.close()
        store = RocksStore(tmp_path, "swept")
        assert store.state().history_first == first
        with store.snapshot() as view:
            assert kept == (list(view.history_from(0)), list(view.seconds_from(0)), list(view.swept_unscored(-1)))
        assert_holds(store, model)
    assert store.state().history_first == last - 10
    store.close()


def test_what_a_bulk_move_ended_goes_with_its_entries(tmp_path: Path) -> None:
    """b and c found clusters, with d in that of c. Both go to a, bit by bit."""
    store = RocksStore(tmp_path, options=RocksOptions(sync=False), moves_at_once=0)
    put(store, founds(0, A), founds(1, B), founds(2, C), joins(3, D, C), kinds=JOB)
    sweep(store, 4)
    say(store, OverrideKind.MERGE, B, C, target=A)
    sweep(store, 5)
    while store.settle(1):
        with store.snapshot() as view:
            assert [progress.problems for progress in verify(view)][-1] == ()
    assert store._database is not None
    assert len(store._database.rows("ended", b"", 10)) == 2
    put(store, *[founds(n, ImageId(f"i{n}")) for n in range(4, 8)], kinds=JOB)
    sweep(store, 100)
    assert store._database.rows("ended", b"", 10) == []
    with store.snapshot() as view:
        assert [progress.problems for progress in verify(view)][-1] == ()
    store.close()


def test_an_image_that_a_bulk_move_has_not_written_yet_has_no_known_past(tmp_path: Path) -> None:
    """No change of b is kept, and it is seen in another cluster already."""
    store = RocksStore(tmp_path, options=RocksOptions(sync=False), moves_at_once=0)
    members = [ImageId(f"m{n}") for n in range(1_500)]
    put(store, founds(0, B), *[joins(1 + n, each, B) for n, each in enumerate(members)], founds(1_501, A), kinds=JOB)
    sweep(store, 1_502, 2_000)
    say(store, OverrideKind.MERGE, B, target=A)
    number = store.state().history_number
    with store.snapshot() as view:
        waits = next(each for each in members if view.is_moving(each))
        with pytest.raises(PastUnknownError, match="moved with many others"):
            head_at(view, waits, 1_502)
        with pytest.raises(PastUnknownError, match="moved with many others"):
            look_up_before(view, [waits], number)
    while store.settle(1_000):
        pass
    with store.snapshot() as view:
        assert (head_at(view, waits, 1_502), head_at(view, waits, 10**6)) == (B, A)
        assert look_up_before(view, [waits], 1_503).memberships[waits].head == B
    store.close()


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(STEPS, st.integers(0, 30), st.integers(1, 9), st.booleans()), max_size=5))
def test_lives_with_sweeps_and_reopenings(rounds: list[tuple[list[Action], int, int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options, model = RocksOptions(sync=False), StoreModel()
        store = RocksStore(Path(folder), options=options)
        for steps, entries, limit, reopened in rounds:
            fill(store, model, steps, 5)
            store.set_published(len(model.history))
            first = store.state().history_first
            count = store.sweep_history(first + entries, limit)
            assert count == min(entries, limit, len(model.history) - first) or count == 0
            assert store.state().history_first == first + count
            if reopened:
                store.close()
                store = RocksStore(Path(folder), options=options)
            assert_holds(store, model)
        store.close()
