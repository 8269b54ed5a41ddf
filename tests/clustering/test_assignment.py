"""The batch loop: what it fetches, where it cuts, and what it does when storage has moved on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from clustering.assignment import Arrival, PairNeed, assign
from clustering.rule import PairScore, Placed, Subject, Verdict
from core.errors import BadInputError, FaultError, LogGapError, StaleError, UnavailableError
from core.types import Cause, Decision, ImageId, Move, Thresholds
from tests.support.cluster_world import Record, World, WorldPorts
from tests.support.reference_store import ReferenceStore


def near(*pairs: str) -> Callable[[bytes, bytes], float]:
    """Codes score 0.9 if their pair is named (in any order), 1 with themselves, else 0.1."""
    named = {frozenset(pair.encode()) for pair in pairs}

    def score(one: bytes, other: bytes) -> float:
        return 1.0 if one == other else 0.9 if frozenset(one + other) in named else 0.1

    return score


def world(codes: str, *pairs: str, k: int = 50, thresholds: Thresholds | None = None) -> World:
    """One new image per letter, whose code is the letter; all are candidates of each other."""
    log = [Record(f"image-{code}", 1, code.encode()) for code in codes]
    return World(log, near(*pairs), thresholds or Thresholds(0.5, 0.5, 0.5), k, overlap_of=lambda one, other: 1)


def heads(store: ReferenceStore) -> dict[str, str]:
    return {image[-1]: head[-1] for image, head in store.heads.items()}


def test_an_empty_batch_asks_nothing() -> None:
    ports = WorldPorts(world("a"), ReferenceStore())
    assert assign([], ports, 5) == 0
    assert set(ports.calls.values()) == {0}


def test_a_batch_of_strangers_takes_one_look_up_and_one_write() -> None:
    here = world("abcd")
    ports = WorldPorts(here, ReferenceStore())
    assert assign(here.arrivals(), ports, 5) == 4
    assert ports.calls == {"look_up": 1, "score": 0, "more": 0, "apply": 1}


def test_scores_of_all_images_are_fetched_in_one_call() -> None:
    # a leads b; c and d match b alone, so each must be compared with a.
    here = world("abcd", "ab", "bc", "bd", "ac")
    store = ReferenceStore()
    assign(here.arrivals(0, 2), WorldPorts(here, store), 5)
    later = [
        replace(one, candidates=one.candidates[1:2], scores=one.scores[1:2], exhausted=True) for one in here.arrivals(2)
    ]
    ports = WorldPorts(here, store)

    assert assign(later, ports, 5) == 2

    assert ports.calls == {"look_up": 1, "score": 1, "more": 0, "apply": 1}
    assert heads(store) == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_what_is_committed_is_settled_without_a_write() -> None:
    here = world("abc", "ab")
    store = ReferenceStore()
    assign(here.arrivals(), WorldPorts(here, store), 5)
    ports = WorldPorts(here, store)
    assert assign(here.arrivals(0, 2), ports, 5) == 2
    assert ports.calls["apply"] == 0


def test_a_batch_that_is_committed_in_part_goes_on_after_it() -> None:
    here = world("abcd", "ab")
    store = ReferenceStore()
    assign(here.arrivals(0, 2), WorldPorts(here, store), 5)
    assert assign(here.arrivals(1), WorldPorts(here, store), 5) == 3
    assert store.position.offset == 3


@pytest.mark.parametrize("first", [1, 3])
def test_a_gap_names_what_storage_expects(first: int) -> None:
    here = world("abcd")
    with pytest.raises(LogGapError, match=f"expects offset 0, the batch begins at {first}") as raised:
        assign(here.arrivals(first), WorldPorts(here, ReferenceStore()), 5)
    assert raised.value.expected == 0


def test_offsets_must_be_consecutive() -> None:
    here = world("abcd")
    with pytest.raises(BadInputError, match="offset 2 follows 0"):
        assign([here.arrival(0), here.arrival(2)], WorldPorts(here, ReferenceStore()), 5)


def _two_that_need_scores() -> tuple[World, ReferenceStore, list[Arrival]]:
    """c and e follow b and wait for a's word; d waits for nothing."""
    here = world("abcde", "ab", "bc", "be", "ac", "ae")
    store = ReferenceStore()
    assign(here.arrivals(0, 2), WorldPorts(here, store), 5)
    only_b = [replace(one, candidates=one.candidates[1:2], scores=one.scores[1:2], exhausted=True)
              for one in here.arrivals(2)]  # fmt: skip
    return here, store, [replace(only_b[1], offset=2, place=2), replace(only_b[0], offset=3, place=3), only_b[2]]


def test_after_the_last_round_the_batch_is_cut_before_the_first_incomplete() -> None:
    here, store, batch = _two_that_need_scores()
    assert assign(batch, WorldPorts(here, store), 5, rounds=0) == 1
    assert store.position.offset == 2


def test_the_first_of_the_batch_goes_on_until_it_is_complete() -> None:
    here, store, batch = _two_that_need_scores()
    assign(batch[:1], WorldPorts(here, store), 5)
    ports = WorldPorts(here, store)
    assert assign(batch[1:], ports, 5, rounds=0) == 2, "what it needed brought the other's scores too"
    assert ports.calls["score"] == 1


def test_candidates_behind_a_giant_cluster_are_found() -> None:
    # a leads b..e. x is close to those, but not to a; it is close to y, which shares as many terms but is younger.
    log = [Record(f"image-{code}", 1, code.encode()) for code in "abcdeyx"]
    here = world("abcdeyx", "ab", "ac", "ad", "ae", "xb", "xc", "xd", "xe", "xy", k=2)
    assert here.log == log
    store = ReferenceStore()
    while store.position.offset + 1 < len(log):
        ports = WorldPorts(here, store)
        assign(here.arrivals(store.position.offset + 1), ports, 5)
    assert heads(store)["x"] == "y"
    assert [need.after for need in ports.asked_more] == [2, 4]
    assert heads(store)["e"] == "a"


def test_a_second_job_that_wrote_the_same_makes_the_batch_settled() -> None:
    here = world("abcd", "ab", "cd")
    store = ReferenceStore()

    def other() -> None:
        ports.before_apply = lambda: None
        assign(here.arrivals(0, 3), WorldPorts(here, store), 6)

    ports = WorldPorts(here, store, before_apply=other)
    assert assign(here.arrivals(), ports, 5) == 4
    assert ports.calls["apply"] == 2
    assert [d.offset for d in store.decisions] == [0, 1, 2, 3], "each record once"
    assert [d.decided_at_ms for d in store.decisions] == [6, 6, 6, 5]


def test_a_second_job_that_wrote_everything() -> None:
    here = world("abcd", "ab", "cd")
    store = ReferenceStore()

    def other() -> None:
        ports.before_apply = lambda: None
        assign(here.arrivals(), WorldPorts(here, store), 6)

    ports = WorldPorts(here, store, before_apply=other)
    assert assign(here.arrivals(), ports, 5) == 4
    assert ports.calls["apply"] == 1


def test_a_head_that_changed_between_look_up_and_write_is_decided_anew() -> None:
    here = world("abc", "ab", "bc", "ac")
    store = ReferenceStore()
    assign(here.arrivals(0, 2), WorldPorts(here, store), 5)
    assert heads(store) == {"a": "a", "b": "a"}

    def a_person_splits_b_off() -> None:
        ports.before_apply = lambda: None
        a, b = ImageId("image-a"), ImageId("image-b")
        store.members[a].remove(b)
        store.members[b] = {b}
        store.founding[b] = b"b"
        store.heads[b] = b
        store.revision += 1

    only_b = replace(
        here.arrival(2), candidates=here.arrival(2).candidates[1:], scores=here.arrival(2).scores[1:], exhausted=True
    )
    ports = WorldPorts(here, store, before_apply=a_person_splits_b_off)

    assert assign([only_b], ports, 5) == 1

    assert heads(store) == {"a": "a", "b": "b", "c": "b"}
    assert ports.calls["look_up"] == 2
    assert ports.calls["score"] == 1, "scores do not age"


def test_a_store_that_never_stands_still_makes_the_batch_wait() -> None:
    here = world("ab")
    store = ReferenceStore()

    def restless() -> None:
        store.revision += 1

    with pytest.raises(UnavailableError):
        assign(here.arrivals(), WorldPorts(here, store, before_apply=restless), 5)
    assert store.decisions == []


@pytest.mark.parametrize("error", [UnavailableError("down"), FaultError("broken")])
@pytest.mark.parametrize("method", ["look_up", "score", "more", "apply"])
def test_errors_of_the_servers_come_out_and_the_same_call_can_be_made_again(method: str, error: Exception) -> None:
    here = world("abcdx", "ab", "bx", "xc", k=2)
    store = ReferenceStore()
    assign(here.arrivals(0, 4), WorldPorts(here, store), 5)
    ports = WorldPorts(here, store)

    def fail(*_: object) -> None:
        raise error

    setattr(ports, method, fail)
    with pytest.raises(type(error)):
        assign(here.arrivals(4), ports, 5)
    assert store.position.offset == 3
    assert assign(here.arrivals(4), WorldPorts(here, store), 5) == 1


class Forgetful(WorldPorts):
    """Servers that leave requests unanswered."""

    def score(self, pairs: Sequence[PairNeed]) -> Mapping[PairNeed, float]:
        return dict(list(super().score(pairs).items())[1:])


def test_an_answer_that_leaves_something_out_is_a_fault() -> None:
    here, store, batch = _two_that_need_scores()
    with pytest.raises(FaultError, match="the scorer left 1 of 2 requests unanswered"):
        assign(batch, Forgetful(here, store), 5)


def test_a_write_that_succeeded_but_was_not_acknowledged_is_settled_by_the_next_call() -> None:
    here = world("ab", "ab")
    store = ReferenceStore()

    class Lossy(WorldPorts):
        def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
            super().apply(decisions, offset, revision)
            raise UnavailableError("deadline")

    with pytest.raises(UnavailableError):
        assign(here.arrivals(), Lossy(here, store), 5)
    assert assign(here.arrivals(), WorldPorts(here, store), 5) == 2
    assert len(store.decisions) == 2


def test_a_lost_write_is_no_stale_error_of_ours() -> None:
    """The store's own StaleError never comes out of `assign`."""
    here = world("a")

    class Contested(WorldPorts):
        def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
            raise StaleError("always", offset, revision)

    with pytest.raises(UnavailableError):
        assign(here.arrivals(), Contested(here, ReferenceStore()), 5)


def test_matched_names_the_match_and_adopted_the_image() -> None:
    here = world("abx", "xa", "xb", thresholds=Thresholds(0.5, 0.5, 0.05))
    store = ReferenceStore()
    assign(here.arrivals(), WorldPorts(here, store), 5)
    own, adopted = store.decisions[2].moves
    assert (own.cause, own.new_head, own.matched, own.score) == (Cause.MATCHED, "image-a", "image-a", 0.9)
    assert (adopted.cause, adopted.image_id, adopted.matched, adopted.score) == (
        Cause.ADOPTED,
        "image-b",
        "image-x",
        0.1,
    )


def test_another_rule_may_be_passed() -> None:
    def never_joins(subject: Subject, placed: Sequence[Placed], score: PairScore) -> Verdict:
        return Verdict((Move(subject.image_id, subject.old_head, subject.image_id, Cause.FOUNDED),), True, False)

    here = world("abc", "ab", "bc", "ac")
    ours, theirs = ReferenceStore(), ReferenceStore()
    assign(here.arrivals(), WorldPorts(here, ours), 5)
    assign(here.arrivals(), WorldPorts(here, theirs), 5, rule=never_joins)
    assert heads(ours) == {"a": "a", "b": "a", "c": "a"}
    assert heads(theirs) == {"a": "a", "b": "b", "c": "c"}


@pytest.mark.parametrize(
    "change",
    [{"scores": (0.5,)}, {"thresholds": None}, {"image_id": ImageId("")}],
)
def test_an_arrival_that_was_scored_has_all_that_belongs_to_it(change: dict[str, object]) -> None:
    whole = world("abc", "ab").arrival(2)
    with pytest.raises(BadInputError):
        replace(whole, **change)  # type: ignore[arg-type]
