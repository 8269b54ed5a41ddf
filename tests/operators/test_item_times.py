"""When records came in and how often they were tried, against a plain account of everything that happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from operators.in_flight_pb2 import StepTime
from operators.item_times import ItemTimes, Timing

STEPS = st.lists(st.tuples(st.sampled_from(["add", "fail", "settle"]), st.integers(1, 5)), min_size=1, max_size=60)


@given(steps=STEPS)
def test_each_record_has_its_times_and_tries(steps: list[tuple[str, int]]) -> None:
    times = ItemTimes()
    entered: list[int] = []
    failed: list[int] = []
    head = 0
    for now_ms, (what, count) in enumerate(steps):
        end = min(len(entered), head + count)
        if what == "add":
            times.entered(len(entered), now_ms)
            entered += [now_ms] * count
            failed += [0] * count
        elif end > head and what == "fail":
            times.failed(end)
            failed[head:end] = [calls + 1 for calls in failed[head:end]]
        elif end > head:
            head = end
            times.settled(head)
        if len(entered) > head:
            timing = times.timing(head, len(entered), lambda: 99)
            assert timing.entered_ms == entered[head:]
            assert timing.tries == [1 + calls for calls in failed[head:]]


def test_records_leave_with_the_time_of_the_clock() -> None:
    timing = Timing([5, 6], [1, 3], lambda: 9)
    assert timing.until_now() == [
        StepTime(entered_ms=5, left_ms=9, tries=1),
        StepTime(entered_ms=6, left_ms=9, tries=3),
    ]
    assert timing.of(1) == StepTime(entered_ms=6, left_ms=9, tries=3)


def test_nothing_is_known_of_records_that_no_operator_has_taken() -> None:
    assert Timing().until_now() == []
    assert Timing().of(3) == StepTime()
