"""Credits of replays: never too many ahead, never stuck, whatever is broken and however often the task restarts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.replay_requests import Lane
from operators.replay_credits import LATE, LIMITS, STEP, ReplayCredits


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


def windows(delays: list[int]) -> list[int]:
    """How many go in each round, when storage applies everything between two rounds."""
    credits, first, found = ReplayCredits(48, gives_way=True), 0, []
    for delay in delays:
        room = credits.room(first - 1, first, delay)
        credits.admitted(range(first, first + room))
        first += room
        found.append(room)
    return found


def test_a_selection_takes_what_live_images_leave() -> None:
    grown = windows([0] * 20)
    assert grown[:3] == [2 * STEP, 3 * STEP, 4 * STEP]
    assert grown[-1] == 48
    usual, late = 200, LATE * 200 + 50
    assert windows([usual] * 20 + [late] * 10)[20:] == [24, 12, 6, 3, 1, 1, 1, 1, 1, 1]
    assert windows([usual] + [late] * 10 + [usual] * 2)[-2:] == [1 + STEP, 1 + 2 * STEP]


def test_the_usual_delay_is_learnt_anew() -> None:
    """An index that has grown makes all verdicts slower. A selection does not crawl for ever."""
    assert windows([200] * 20 + [900] * 200)[-1] == 48


def test_short_delays_are_never_late() -> None:
    assert windows([10] * 20 + [190] * 5)[-1] == 48


def test_one_round_halves_the_window_once() -> None:
    credits = ReplayCredits(48, gives_way=True)
    assert credits.room(-1, 0, 200) == 2 * STEP
    credits.admitted(range(8))
    assert credits.room(3, 8, LATE * 200 + 50) == 0  # halved by what the first request found
    assert [credits.room(applied, 8, LATE * 200 + 50) for applied in (4, 5, 6, 7)] == [1, 2, 3, 4]


@pytest.mark.parametrize("broken", [3, 4, 400])
def test_records_that_were_none_never_hold_up_the_rest(broken: int) -> None:
    credits = ReplayCredits(4)
    assert credits.room(applied=-1, first=broken) == 1
    credits.admitted([broken])
    assert credits.room(applied=broken, first=broken + 1) == 4
