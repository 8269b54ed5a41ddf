"""When the pending records of a step came in, and the calls that failed with them. Pure, and in memory alone.

After a restart of the task the pending records count as come in then, and as not tried yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from operators.in_flight_pb2 import StepTime

__all__ = ["ItemTimes", "Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Of the records of one call: when each came in, and how many calls were made for it, this one included."""

    entered_ms: Sequence[int] = ()
    tries: Sequence[int] = ()
    clock: Callable[[], int] = lambda: 0
    """Milliseconds since the epoch."""

    def until_now(self) -> Sequence[StepTime]:
        """The times of records that leave the step now, one for each."""
        left_ms = self.clock()
        return [
            StepTime(entered_ms=entered_ms, left_ms=left_ms, tries=tries)
            for entered_ms, tries in zip(self.entered_ms, self.tries, strict=True)
        ]

    def of(self, row: int) -> StepTime:
        """The time of one record that leaves the step now; nothing if no time is known."""
        if not self.tries:
            return StepTime()
        return StepTime(entered_ms=self.entered_ms[row], left_ms=self.clock(), tries=self.tries[row])


class ItemTimes:
    """Of all pending records of one step. Records are known by their sequence numbers (`operators.batcher`)."""

    def __init__(self) -> None:
        """Begins empty."""
        self._entered: deque[tuple[int, int]] = deque()
        """The first record of each element, and when it came in."""
        self._failed: dict[int, int] = {}
        """The calls that failed, by where their records ended."""

    def entered(self, first: int, now_ms: int) -> None:
        """Records from `first` on have come in."""
        self._entered.append((first, now_ms))

    def failed(self, end: int) -> None:
        """A call with all pending records up to `end` has failed."""
        self._failed[end] = self._failed.get(end, 0) + 1

    def settled(self, head: int) -> None:
        """The records before `head` are gone."""
        while len(self._entered) > 1 and self._entered[1][0] <= head:
            self._entered.popleft()
        if self._failed:
            self._failed = {end: calls for end, calls in self._failed.items() if end > head}

    def timing(self, first: int, end: int, clock: Callable[[], int]) -> Timing:
        """Of the records `first` up to, not including, `end`, which a call is made for."""
        if not self._failed and len(self._entered) == 1:  # the usual case: one element, tried once
            return Timing([self._entered[0][1]] * (end - first), [1] * (end - first), clock)
        entered = iter(self._entered)
        _, now_ms = next(entered, (first, clock()))
        later = next(entered, None)
        times: list[int] = []
        for sequence in range(first, end):
            while later is not None and later[0] <= sequence:
                now_ms, later = later[1], next(entered, None)
            times.append(now_ms)
        failed = self._failed
        tries = [1 + sum(calls for at, calls in failed.items() if at > each) for each in range(first, end)]
        return Timing(times, tries, clock)
