"""The batcher as timelines, and against every order of failures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import Reason
from core.errors import SettingsError
from operators.batcher import Attempt, Batcher, BatchPolicy, Progress

POLICY = BatchPolicy(
    max_items=8, max_delay_ms=5, throttle_ms=20, backoff_first_ms=50, backoff_max_ms=400, max_faults=3, max_bytes=1_000
)
A, B = ("a",), ("b",)


def filled(count: int, policy: BatchPolicy = POLICY, now_ms: int = 0) -> Batcher:
    batcher = Batcher(policy)
    for _ in range(count):
        batcher.add(now_ms)
    return batcher


def span(batcher: Batcher) -> tuple[int, int]:
    attempt = batcher.attempt()
    return attempt.first, attempt.end


# --- when a batch is tried


def test_nothing_pending_is_never_due() -> None:
    batcher = Batcher(POLICY)
    assert not batcher.due(10**12)
    assert batcher.wake_ms is None


def test_a_batch_is_due_after_the_delay_of_its_first_item() -> None:
    # 100: item 0 ... 103: item 1 ... 105: due
    batcher = Batcher(POLICY)
    batcher.add(100)
    batcher.add(103)
    assert not batcher.due(104)
    assert batcher.wake_ms == 105
    assert batcher.due(105)
    assert span(batcher) == (0, 2)


def test_a_full_batch_is_due_at_once() -> None:
    batcher = filled(7)
    assert not batcher.due(0)
    batcher.add(0)
    assert batcher.due(0)


def test_a_batch_takes_no_more_than_its_items() -> None:
    batcher = filled(20)
    assert span(batcher) == (0, 8)


def test_what_is_left_over_is_due_at_once() -> None:
    batcher = filled(9)
    batcher.settled(batcher.attempt(), 8, 40)
    assert batcher.wake_ms == 40
    batcher.settled(batcher.attempt(), 1, 50)
    assert batcher.wake_ms is None
    assert batcher.pending == 0


def test_a_partly_settled_batch_goes_on_behind_what_is_settled() -> None:
    batcher = filled(8)
    batcher.settled(batcher.attempt(), 3, 40)
    assert span(batcher) == (3, 8)
    assert batcher.due(40)


# --- waiting


def test_backoff_doubles_up_to_its_bound() -> None:
    assert [POLICY.backoff_ms(n) for n in (1, 2, 3, 4, 5, 1000)] == [50, 100, 200, 400, 400, 400]


def test_a_failed_batch_waits_even_if_it_is_full() -> None:
    batcher = filled(8)
    batcher.unavailable(batcher.attempt(), A, 1_000)
    batcher.add(1_001)
    assert batcher.failing
    assert not batcher.due(1_049)
    assert batcher.due(1_050)
    assert batcher.throttle_ms == 20


def test_elements_are_held_only_while_the_last_call_failed() -> None:
    batcher = filled(8)
    assert batcher.throttle_ms == 0
    batcher.back_off(0)
    assert batcher.throttle_ms == 20
    batcher.settled(batcher.attempt(), 8, 10)
    assert batcher.throttle_ms == 0


def test_elements_are_held_while_nothing_may_go_and_a_batch_is_full() -> None:
    batcher = filled(7)
    batcher.held(0, 10)
    assert batcher.throttle_ms == 0
    batcher.add(1)
    assert batcher.throttle_ms == 20
    batcher.settled(batcher.attempt(), 1, 10)
    assert batcher.throttle_ms == 0


def test_a_server_may_ask_for_more_time_within_bounds() -> None:
    batcher = filled(1)
    batcher.unavailable(batcher.attempt(), A, 0, retry_after_ms=300)
    assert batcher.wake_ms == 300
    batcher.back_off(1_000, retry_after_ms=10_000)
    assert batcher.wake_ms == 1_400


def test_the_same_instance_answering_again_does_not_count() -> None:
    batcher = filled(1)
    for time in range(50):
        batcher.unavailable(batcher.attempt(), A, time)
        assert batcher.needs_ping
        batcher.answered(A, time)
        assert not batcher.needs_ping
    assert batcher.attempt() == Attempt(0, 1)


def test_a_living_server_that_does_not_answer_gets_smaller_batches() -> None:
    # Three calls of 8 time out, the server lives: it is asked for 4, then, after three more, for 2.
    batcher = filled(8)
    sizes = []
    for _ in range(7):
        sizes.append(len(batcher.attempt()))
        batcher.unavailable(batcher.attempt(), A, 0)
        batcher.answered(A, 0)
    assert sizes == [8, 8, 8, 4, 4, 4, 2]


def test_a_server_never_heard_of_before_is_not_taken_for_a_restarted_one() -> None:
    batcher = filled(1)
    for _ in range(POLICY.max_faults + 1):
        batcher.unavailable(batcher.attempt(), (None,), 0)
        batcher.answered(B, 0)
    assert batcher.attempt().reason is None


# --- a lone item that misses its deadlines


def missed(batcher: Batcher, times: int, answered: bool = True) -> None:
    for _ in range(times):
        batcher.unavailable(batcher.attempt(), A, 0, missed=True)
        if answered:
            batcher.answered(A, 0)


def test_a_lone_item_that_misses_its_deadline_on_a_living_server_is_isolated() -> None:
    batcher = filled(2, replace(POLICY, max_misses=4))
    missed(batcher, POLICY.max_faults)  # the batch of two is halved
    missed(batcher, 3)
    assert batcher.attempt() == Attempt(0, 1)
    batcher = Batcher(replace(POLICY, max_misses=4), batcher.progress())  # what was counted survives a restart
    missed(batcher, 1)
    attempt = batcher.attempt()
    assert attempt.reason is not None
    assert (len(attempt), attempt.reason.reason) == (1, Reason.FAULTED)
    batcher.settled(attempt, 1, 0)
    assert batcher.attempt() == Attempt(1, 2)


def test_a_server_that_is_down_or_asks_to_wait_isolates_nothing() -> None:
    batcher = filled(1, replace(POLICY, max_misses=2))
    missed(batcher, 100, answered=False)  # no ping is answered
    batcher.answered(A, 0)
    for _ in range(100):  # it is full, or the connection breaks: no deadline passed
        batcher.unavailable(batcher.attempt(), A, 0, retry_after_ms=100)
        batcher.answered(A, 0)
    assert batcher.attempt() == Attempt(0, 1)


def test_deadlines_are_counted_anew_after_a_success() -> None:
    batcher = filled(2, replace(POLICY, max_misses=2, max_items=1))
    missed(batcher, 1)
    batcher.settled(batcher.attempt(), 1, 0)
    missed(batcher, 1)
    assert batcher.attempt() == Attempt(1, 2)


# --- faults, halving, isolation


def test_repeated_faults_halve_a_batch() -> None:
    batcher = filled(8)
    for _ in range(2):
        batcher.faulted(batcher.attempt(), "broken", 0)
        assert span(batcher) == (0, 8)
    batcher.faulted(batcher.attempt(), "broken", 70)
    assert span(batcher) == (0, 4)
    assert batcher.wake_ms == 70
    assert not batcher.failing


def test_the_second_half_follows_the_first() -> None:
    batcher = filled(8)
    for _ in range(3):
        batcher.faulted(batcher.attempt(), "broken", 0)
    batcher.add(0)
    batcher.settled(batcher.attempt(), 4, 0)
    assert span(batcher) == (4, 8)
    batcher.settled(batcher.attempt(), 4, 0)
    assert span(batcher) == (8, 9)


def test_a_success_forgives() -> None:
    batcher = filled(8)
    for _ in range(2):
        batcher.faulted(batcher.attempt(), "broken", 0)
    batcher.settled(batcher.attempt(), 2, 0)
    for _ in range(2):
        batcher.faulted(batcher.attempt(), "broken", 0)
    assert span(batcher) == (2, 8)


def test_a_single_item_with_all_faults_is_isolated() -> None:
    batcher = filled(1)
    for _ in range(3):
        batcher.faulted(batcher.attempt(), "broken", 0)
    attempt = batcher.attempt()
    assert (attempt.first, attempt.end) == (0, 1)
    assert attempt.reason is not None
    assert attempt.reason.reason is Reason.FAULTED
    assert "broken (3 times)" in attempt.reason.detail


def test_a_server_that_died_during_the_call_counts_as_a_fault() -> None:
    batcher = filled(1)
    instances = [("instance-0",), ("instance-1",), ("instance-2",), ("instance-3",)]
    for before, after in pairwise(instances):
        assert batcher.attempt().reason is None
        batcher.unavailable(batcher.attempt(), before, 0)
        batcher.back_off(1)  # still down: no second ping
        batcher.answered(after, 2)
    assert batcher.attempt().reason is not None


def test_one_death_counts_once_however_long_the_server_stays_away() -> None:
    batcher = filled(1)
    batcher.unavailable(batcher.attempt(), A, 0)
    for time in range(100):
        batcher.unavailable(batcher.attempt(), A, time)
    batcher.answered(B, 200)
    assert batcher.progress().faults == 1


def test_one_of_several_servers_that_died_counts_as_a_fault() -> None:
    batcher = filled(1)
    batcher.unavailable(batcher.attempt(), ("a", None, "c"), 0)
    batcher.answered(("a", "b", "d"), 1)
    assert batcher.progress().faults == 1


def test_a_refused_item_is_isolated_at_once_and_keeps_its_place() -> None:
    batcher = filled(8)
    batcher.refused(batcher.attempt(), 5, "too long", 9)
    assert span(batcher) == (0, 5)
    assert batcher.due(9)
    batcher.settled(batcher.attempt(), 5, 9)
    attempt = batcher.attempt()
    assert (attempt.first, attempt.end) == (5, 6)
    assert attempt.reason is not None
    assert attempt.reason.reason is Reason.REFUSED
    batcher.settled(attempt, 1, 9)
    assert span(batcher) == (6, 8)
    assert batcher.attempt().reason is None


@pytest.mark.parametrize("unknown", [None, 8, -1])
def test_a_refusal_that_names_nothing_halves_at_once(unknown: int | None) -> None:
    batcher = filled(8)
    batcher.refused(batcher.attempt(), unknown, "no", 0)
    assert span(batcher) == (0, 4)
    for _ in range(2):
        batcher.refused(batcher.attempt(), unknown, "no", 0)
    assert span(batcher) == (0, 1)
    batcher.refused(batcher.attempt(), unknown, "no", 0)
    assert batcher.attempt().reason is not None


def test_an_isolated_item_is_waited_for_whatever_happens() -> None:
    batcher = filled(2)
    batcher.refused(batcher.attempt(), 0, "no", 0)
    for _ in range(10):
        attempt = batcher.attempt()
        assert attempt.reason is not None
        batcher.faulted(attempt, "broken", 0)
        batcher.refused(attempt, 0, "no", 0)
        batcher.unavailable(attempt, A, 0)
        assert not batcher.needs_ping
    assert batcher.failing
    assert batcher.attempt().first == 0


def test_a_batch_cut_by_bytes_is_halved_by_what_was_tried() -> None:
    batcher = filled(8)
    for _ in range(3):
        batcher.faulted(batcher.attempt().first_items(4), "broken", 0)
    assert span(batcher) == (0, 2)
    batcher.settled(batcher.attempt(), 2, 0)
    assert span(batcher) == (2, 4)


# --- restarts


def test_progress_goes_on_where_it_was() -> None:
    batcher = filled(8)
    for _ in range(3):
        batcher.faulted(batcher.attempt(), "broken", 0)
    batcher.faulted(batcher.attempt(), "broken", 0)
    batcher.refused(batcher.attempt(), 2, "no", 0)
    again = Batcher(POLICY, batcher.progress(), now_ms=77)
    assert again.progress() == batcher.progress()
    assert again.attempt() == batcher.attempt()
    assert again.wake_ms == 77


def test_nothing_pending_is_not_due_after_a_restart() -> None:
    assert Batcher(POLICY, Progress(head=9, tail=9), 5).wake_ms is None
    assert Batcher(POLICY, Progress(head=9, tail=9), 5).add(5) == 9


@pytest.mark.parametrize(("took_ms", "waits_ms"), [(0, 5), (3, 5), (10, 10), (400, 15)])
def test_the_first_item_waits_as_long_as_the_last_call_took(took_ms: int, waits_ms: int) -> None:
    batcher = Batcher(POLICY)
    batcher.add(0)
    batcher.settled(batcher.attempt(), 1, 100, took_ms)
    batcher.add(200)
    assert batcher.wake_ms == 200 + waits_ms


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_items": 0},
        {"max_delay_ms": -1},
        {"busy_delay_ms": -1},
        {"max_bytes": 0},
        {"max_faults": 0},
        {"max_misses": 0},
        {"throttle_ms": -1},
        {"backoff_first_ms": 0},
        {"backoff_first_ms": 3_000},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        BatchPolicy(**wrong)


# --- everything at once


@dataclass
class Server:
    """Breaks on poison, goes away now and then, and is restarted under another instance id."""

    poison: frozenset[int]
    refuses: frozenset[int]
    dies: bool
    instances: int = 0

    def instance_ids(self) -> tuple[str]:
        return (f"instance-{self.instances}",)


@given(
    items=st.integers(1, 30),
    poison=st.sets(st.integers(0, 29), max_size=4),
    refuses=st.sets(st.integers(0, 29), max_size=3),
    dies=st.booleans(),
    outages=st.lists(st.booleans(), max_size=40),
    settles=st.lists(st.integers(1, 8), max_size=60),
    restarts=st.sets(st.integers(0, 200), max_size=5),
)
def test_every_item_is_settled_once_in_order_and_only_bad_ones_are_isolated(
    items: int,
    poison: set[int],
    refuses: set[int],
    dies: bool,
    outages: list[bool],
    settles: list[int],
    restarts: set[int],
) -> None:
    policy = BatchPolicy(max_items=8, max_faults=2, backoff_first_ms=1, backoff_max_ms=4)
    server = Server(frozenset(poison), frozenset(refuses - poison), dies)
    batcher = filled(items, policy)
    done: list[tuple[int, bool]] = []
    now = 0
    for step in range(3_000):
        if not batcher.pending:
            break
        if step in restarts:
            batcher = Batcher(policy, batcher.progress(), now)
        wake = batcher.wake_ms
        assert wake is not None
        now = max(now, wake)
        assert batcher.due(now)
        if batcher.needs_ping:
            batcher.answered(server.instance_ids(), now)
        attempt = batcher.attempt()
        inside = range(attempt.first, attempt.end)
        if outages and outages.pop():
            batcher.unavailable(attempt, server.instance_ids(), now)
        elif attempt.reason is None and server.poison & set(inside):
            if server.dies:
                before = server.instance_ids()
                server.instances += 1
                batcher.unavailable(attempt, before, now)
            else:
                batcher.faulted(attempt, "broken", now)
        elif attempt.reason is None and server.refuses & set(inside):
            batcher.refused(attempt, min(server.refuses & set(inside)), "no", now)
        else:
            count = min(settles.pop() if settles else 8, len(attempt))
            done += [(at, attempt.reason is not None) for at in inside[:count]]
            batcher.settled(attempt, count, now)
    assert done == [(at, at in poison | refuses) for at in range(items)]
