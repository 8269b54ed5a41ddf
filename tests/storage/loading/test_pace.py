"""How long a load waits, and how fast it was."""

from __future__ import annotations

from storage.loading.pace import Pace, Rate


def test_a_pace_spreads_rows_over_time() -> None:
    pace = Pace(100.0)
    assert pace.pause_s(50, 10.0) == 0.5
    assert pace.pause_s(50, 10.5) == 0.5
    assert pace.pause_s(50, 12.0) == 0.0  # it is late, and may catch up
    assert Pace(0.0).pause_s(10**9, 0.0) == 0.0


def test_a_rate_is_that_of_the_last_minute() -> None:
    rate = Rate()
    assert rate.per_s() == 0.0
    rate.saw(0, 0.0)
    assert rate.per_s() == 0.0
    rate.saw(100, 10.0)
    assert rate.per_s() == 10.0
    for second in range(20, 200, 10):
        rate.saw(100 + 5 * second, float(second))
    assert rate.per_s() == 5.0
