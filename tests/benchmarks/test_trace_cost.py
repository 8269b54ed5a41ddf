"""The bookkeeping of `make bench-traces`: the order of the rounds, and what follows from their times."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.trace_cost import BEFORE, SHARES, TraceLoad, halves, summary, turns, untraced_us


def test_rounds_take_turns_and_none_is_always_first() -> None:
    order = list(turns(list(SHARES), 5))
    assert Counter(order) == dict.fromkeys(SHARES, 5)
    firsts = order[:: len(SHARES)]
    assert set(firsts) == set(SHARES)
    for at in range(0, len(order), len(SHARES)):
        assert set(order[at : at + len(SHARES)]) == set(SHARES)


def test_what_is_sent_is_what_the_rounds_need() -> None:
    assert TraceLoad(200.0, 60.0, 180.0, 5).images == 200 * (180 + 60 * 5 * 3)
    assert TraceLoad(200.0, 60.0, 180.0, 5, ("none",)).images == 200 * (180 + 60 * 5)


def test_two_parts_have_all_rounds() -> None:
    assert [part.rounds for part in halves(TraceLoad(1.0, 1.0, 1.0, 5))] == [3, 2]
    assert [part.rounds for part in halves(TraceLoad(1.0, 1.0, 1.0, 1))] == [1]


def test_the_calls_for_an_image_that_nobody_asks_about_are_timed(caplog: pytest.LogCaptureFixture) -> None:
    assert untraced_us(batches=2, size=8) > 0
    assert (
        caplog.records == []
    )  # tracing swallows its errors and logs them: a broken call would be timed as a cheap one


def test_medians_are_compared_with_the_rounds_in_which_nobody_asked() -> None:
    found = summary({"none": [100.0, 900.0, 102.0], "hundredth": [103.0], "all": [204.0]})
    assert found == {
        "none_us": 102.0,
        "hundredth_us": 103.0,
        "all_us": 204.0,
        "none_more_percent": 0.0,
        "hundredth_more_percent": 0.98,
        "all_more_percent": 100.0,
    }


def test_medians_are_compared_with_the_other_revision_if_there_is_one() -> None:
    found = summary({"none": [102.0], "all": [150.0], BEFORE: [100.0]})
    assert (found["none_more_percent"], found["all_more_percent"], found["before_us"]) == (2.0, 50.0, 100.0)
    assert "before_more_percent" not in found
