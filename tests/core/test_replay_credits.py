"""Credits of replays: never too many ahead, never stuck, whatever is broken and however often the task restarts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.replay_credits import LATE, LIMITS, STEP, ReplayCredits, UsualDelay
from core.replay_requests import Lane


def test_both_lanes_together_have_one_batch() -> None:
    assert sum(LIMITS.values()) == 64
    assert set(LIMITS) == set(Lane)


@settings(deadline=None)
@given(
    broken=st.lists(st.booleans(), min_size=1, max_size=60),
    limit=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    restarts=st.floats(0, 0.5),
    late=st.one_of(st.none(), st.floats(0, 1)),
)
def test_all_go_in_their_order_and_few_are_ahead(
    broken: list[bool], limit: int, seed: int, restarts: float, late: float | None
) -> None:
    """`late`: how often live images are; None: the lane does not give way."""
    dice = random.Random(seed)
    credits = ReplayCredits(limit, late is not None)
    order: list[int] = []  # what lies in the order, repeats too
    taken = applied_to = 0  # of the requests; of the order
    applied = -1
    extra = 0  # restarts since nothing was ahead
    for _ in range(10_000):
        if taken == len(broken) and applied_to == len(order):
            break
        if dice.random() < restarts:
            credits = ReplayCredits(limit, late is not None)
            extra += 1
        if applied_to == len(order):
            extra = 0
        if taken < len(broken):
            room = credits.room(applied, taken, 9_000 if dice.random() < (late or 0) else 150)
            batch = range(taken, min(len(broken), taken + room))
            good = [offset for offset in batch if not broken[offset]]
            credits.admitted(good)
            order += good
            taken += len(batch)
            assert len(set(order[applied_to:])) <= limit + extra
        steps = dice.randrange(limit + 1)
        for offset in order[applied_to : applied_to + steps]:
            applied = max(applied, offset)
        applied_to = min(len(order), applied_to + steps)
    assert order == [offset for offset, bad in enumerate(broken) if not bad]


def test_after_a_restart_what_is_not_applied_counts() -> None:
    credits = ReplayCredits(4)
    assert credits.room(applied=7, first=10) == 2
    credits.admitted([10, 11])
    assert credits.room(applied=7, first=12) == 0
    assert credits.room(applied=9, first=12) == 2
    assert credits.room(applied=11, first=12) == 4


def windows(delays: list[int], round_ms: int = 300) -> list[int]:
    """How many go in each round, when storage applies everything between two rounds."""
    credits, first, found = ReplayCredits(48, gives_way=True), 0, []
    for number, delay in enumerate(delays):
        room = credits.room(first - 1, first, delay, number * round_ms)
        credits.admitted(range(first, first + room))
        first += room
        found.append(room)
    return found


USUAL = 200
LATE_NOW = int(LATE * USUAL) + 50


def test_a_selection_takes_what_live_images_leave() -> None:
    grown = windows([0] * 60)
    assert grown[:3] == [1 + STEP, 1 + 2 * STEP, 1 + 3 * STEP]
    assert grown[-1] == 48
    assert windows([USUAL] * 60 + [LATE_NOW] * 10)[60:] == [24, 12, 6, 3, 1, 1, 1, 1, 1, 1]
    assert windows([USUAL] + [LATE_NOW] * 10 + [USUAL] * 2)[-2:] == [1 + STEP, 1 + 2 * STEP]


def test_the_later_live_images_are_the_slower_a_window_grows() -> None:
    half = round(USUAL * (1 + (LATE - 1) / 2))
    assert windows([USUAL, *[half] * 4]) == [1 + STEP, *(int(1 + STEP + n * STEP / 2) for n in (1, 2, 3, 4))]


def test_its_own_delay_does_not_become_usual() -> None:
    """However long a selection runs: whenever it has made live images late, it gives way."""
    assert max(windows([USUAL, *[LATE_NOW] * 1_000])[3:]) == 1


def test_the_usual_delay_is_learnt_anew() -> None:
    """An index that has grown makes all verdicts slower. A selection does not crawl for ever."""
    assert windows([USUAL] * 20 + [900] * 200, round_ms=10_000)[-1] == 48


@given(st.lists(st.tuples(st.integers(1, 5_000), st.integers(0, 200_000)), min_size=1))
def test_usual_is_the_least_delay_of_the_last_minutes(told: list[tuple[int, int]]) -> None:
    usual, known, now_ms = UsualDelay(), [], 0
    for delay, later_ms in told:
        now_ms += later_ms
        known.append((now_ms // 60_000, delay))
        recent = [each for minute, each in known if minute > now_ms // 60_000 - 10]
        assert usual.add(delay, now_ms) == max(100, min(recent))


def test_a_clock_that_is_set_back_breaks_nothing() -> None:
    usual = UsualDelay()
    assert [usual.add(300, 600_000), usual.add(200, 0), usual.add(400, 600_000)] == [300, 200, 200]


def test_short_delays_are_never_late() -> None:
    assert windows([10] * 60 + [int(LATE * 100)] * 5)[-1] == 48


def test_one_round_halves_the_window_once() -> None:
    credits = ReplayCredits(48, gives_way=True)
    room = credits.room(-1, 0, USUAL)
    assert room == 1 + STEP
    credits.admitted(range(int(room)))
    assert credits.room(0, 2, LATE_NOW) == 0  # halved by what the first request found
    assert credits.room(1, 2, LATE_NOW) == 1


@pytest.mark.parametrize("broken", [3, 4, 400])
def test_records_that_were_none_never_hold_up_the_rest(broken: int) -> None:
    credits = ReplayCredits(4)
    assert credits.room(applied=-1, first=broken) == 1
    credits.admitted([broken])
    assert credits.room(applied=broken, first=broken + 1) == 4
