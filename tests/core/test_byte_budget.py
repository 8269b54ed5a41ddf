"""The budget of bytes: refused over it with a wait, given back in any case, and never in the way of one large call."""

from __future__ import annotations

import pytest

from core.byte_budget import ByteBudget
from core.errors import BusyError


def test_calls_over_the_budget_are_refused_until_others_have_ended() -> None:
    budget = ByteBudget(10)
    with budget.hold(6):
        with budget.hold(4):
            pass
        with pytest.raises(BusyError, match="hold 6 bytes, 5 more would exceed 10") as caught, budget.hold(5):
            pass
        assert caught.value.retry_after_s
    with budget.hold(5):
        pass


def test_a_call_that_fails_gives_its_bytes_back() -> None:
    budget = ByteBudget(10)
    with pytest.raises(ZeroDivisionError), budget.hold(10):
        _ = 1 / 0
    with budget.hold(10):
        pass


def test_a_call_larger_than_the_budget_gets_in_alone() -> None:
    budget = ByteBudget(10)
    with budget.hold(11), pytest.raises(BusyError), budget.hold(1):
        pass
