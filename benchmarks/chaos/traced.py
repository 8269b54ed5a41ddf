"""Images that ask for a trace, and whether they have got one.

A trace is sent with the verdict, at least once. It may be missing where the job began without a checkpoint shortly
after the verdict, and where the broker lost what it had not written to disk: the topic `debug` is not flushed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from zlib import crc32

from core.errors import BadInputError
from core.traces import TraceKind, parse_trace
from manifests.image_files import ImageRow
from tests.support.flow import Flow
from tests.support.stack import Stack

__all__ = ["TracedImages", "asks_for_trace"]

CHECKPOINT_S = 60.0
"""A checkpoint may be so old when a job that cannot use it begins, on a busy machine."""


def asks_for_trace(row: ImageRow) -> bool:
    """One image of five."""
    return crc32(row.image_id.encode()) % 5 == 0


@dataclass
class TracedImages:
    """What must have a trace."""

    flow: Flow
    everyone: bool = False
    """All images are traced."""
    losses_ms: list[int] = field(default_factory=list)
    """When jobs may have begun without the last checkpoint, in milliseconds since the epoch."""
    _since: float = 0.0

    def job_lost(self) -> None:
        """The job begins anew, perhaps without its checkpoint."""
        self.losses_ms.append(time.time_ns() // 10**6)

    def topic_lost(self) -> None:
        """What lies in `debug` may be gone. Only images that are sent from now on count."""
        self._since = time.monotonic()

    def check(self, stack: Stack) -> int:
        """Returns how many traces are there of the images that need one.

        Raises:
            AssertionError: An image has no trace, without an excuse.
        """
        first_decided = {each["image_id"]: each["decided_at_ms"] for each in reversed(stack.assignments())}
        sent: dict[str, tuple[float, ImageRow]] = {}
        for moment, row in self.flow.sent:
            sent.setdefault(row.image_id, (moment, row))
        wanted = {
            image_id
            for image_id, (moment, row) in sent.items()
            if moment >= self._since and (self.everyone or asks_for_trace(row))
        }
        found = set()
        for value in stack.records(stack.signal.topic("debug")):
            try:
                trace = parse_trace(value)
            except BadInputError:
                continue
            if trace.kind == TraceKind.IMAGE:
                found.add(trace.image_id)
        missing = {each for each in wanted - found if each in first_decided and not self._excused(first_decided[each])}
        assert not missing, f"{len(missing)} of {len(wanted)} images have no trace, such as {sorted(missing)[:5]}"
        return len(wanted & found)

    def _excused(self, decided_ms: int) -> bool:
        return any(-1000 * CHECKPOINT_S <= decided_ms - each <= 1000 * CHECKPOINT_S for each in self.losses_ms)
