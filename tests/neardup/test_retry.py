"""Waits between tries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from neardup.retry import RetryPolicy, retry_after_s

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def test_waits_double_up_to_the_longest() -> None:
    policy = RetryPolicy(retries=5, first_wait_s=1.0, longest_wait_s=5.0)
    assert [policy.wait_s(tried) for tried in range(1, 7)] == [1.0, 2.0, 4.0, 5.0, 5.0, None]


def test_no_retries() -> None:
    assert RetryPolicy(retries=0).wait_s(1) is None


@pytest.mark.parametrize(("asked_s", "wait_s"), [(0.0, 0.0), (5.0, 5.0), (5.1, None)])
def test_a_wait_that_the_service_asks_for(asked_s: float, wait_s: float | None) -> None:
    assert RetryPolicy(longest_wait_s=5.0).wait_s(1, asked_s) == wait_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (" 0 ", 0.0),
        ("soon", None),
        ("-1", None),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
    ],
)
def test_the_header(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOW) == seconds


def test_a_date_is_compared_with_the_clock() -> None:
    assert retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
