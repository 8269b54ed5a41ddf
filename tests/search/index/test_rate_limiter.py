"""The rate of background work: a slice takes as long as its bytes allow, urgent work has no limit, a stop ends it."""

from __future__ import annotations

import threading

import pytest

from core.apart import WorkStopped
from search.index.rate_limiter import RateLimiter


class Moments(threading.Event):
    """A clock, and an event whose waits pass at once by that clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now += timeout
        return self.is_set()


def test_slices_take_as_long_as_their_bytes_may() -> None:
    moments = Moments()
    limiter = RateLimiter(1000.0, moments, clock=lambda: moments.now)
    limiter.spend(500)
    assert moments.now == pytest.approx(100.5)
    moments.now += 0.2  # the work itself counts
    limiter.spend(500)
    assert moments.now == pytest.approx(101.0)
    moments.now += 9.0  # a slow slice is no reason to hurry with the next
    limiter.spend(500)
    limiter.spend(500)
    assert moments.now == pytest.approx(110.5)


def test_no_limit_and_urgent_work_wait_for_nothing() -> None:
    moments = Moments()
    RateLimiter(0.0, moments, clock=lambda: moments.now).spend(10**12)
    RateLimiter(1.0, moments, lambda: True, lambda: moments.now).spend(10**12)
    assert moments.now == 100.0


@pytest.mark.parametrize("rate", [0.0, 1000.0])
def test_whoever_is_stopped_goes_no_further(rate: float) -> None:
    moments = Moments()
    limiter = RateLimiter(rate, moments, clock=lambda: moments.now)
    limiter.spend(1)
    moments.set()
    with pytest.raises(WorkStopped):
        limiter.spend(1)
