"""How long to wait before a failed call is made again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["RetryPolicy", "retry_after_s"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff, unless the service says how long to wait."""

    retries: int = 2
    """Calls after the first one, at most; 0: never call again."""
    first_wait_s: float = 0.2
    """Before the first retry; doubled before each further one."""
    longest_wait_s: float = 10.0
    """No wait is longer. A service that asks for a longer one is not called again."""

    def wait_s(self, tried: int, asked_s: float | None = None) -> float | None:
        """The wait before the next try in seconds; None: give up.

        Args:
            tried: Calls made so far, at least 1.
            asked_s: What the service asks to wait, where it does.
        """
        if tried > self.retries or (asked_s is not None and asked_s > self.longest_wait_s):
            return None
        if asked_s is not None:
            return asked_s
        return min(self.first_wait_s * 2.0 ** (tried - 1), self.longest_wait_s)


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """The seconds that a `Retry-After` header asks for: it holds seconds or a date.

    Args:
        header: The header's value.
        now: The present time; None: the machine's clock.

    Returns:
        Seconds, 0 or more; None where there is no header or it cannot be read.
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
