"""When a micro-batch is tried, how failures are waited out, and how the one item that breaks it is found. Pure.

Items are known here by their sequence numbers alone: `head` is the oldest that is pending, `tail` the next to be given.
Time is milliseconds and comes in as an argument. One life of a batch:

    pending --max_items or a delay--> tried --settled--> gone
                                            |
        unavailable                         +-> backoff, ping, tried again: for ever
        fault, or the server's instance id  |
        changed since an unavailable call   +-> counted; `max_faults` of them halve the batch, or isolate its only item
        refused                             +-> the named item is isolated at once; unnamed: the batch is halved
        held                                +-> tried again after the time that the step names: nothing has failed

Halving keeps the order: the first half is tried, then the second. Each is halved again when it fails in its turn. Items
behind the halved batch wait until it is settled. An isolated item is tried alone, in its place in the order, by another
way of handling it (`Attempt.reason` is set). It is tried until that succeeds.

A timeout is not a fault: the server was too slow, perhaps for a call of that size, but a ping shows the same
instance id. `max_faults` timeouts make the batch smaller too. A lone item is isolated after `max_misses` deadlines that
it alone missed, each followed by the answer of the same living server to other calls. A server that is down, asks to
wait or answers no other call isolates nothing, however long it lasts.

While servers are busy their calls take longer, and the first item waits longer for others: a call for many costs
little more than a call for few.

`Progress` is all that must survive a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.dead_letters import BadRecord, Reason
from core.errors import SettingsError

__all__ = ["Attempt", "BatchPolicy", "Batcher", "InstanceIds", "Progress"]

InstanceIds = tuple[str | None, ...]
"""The instance id of each server that a batch is sent to; None for one that has not answered yet."""


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How items are batched and how failures are met. Times are milliseconds.

    Raises:
        SettingsError: A value is too small, or the first backoff exceeds the last.
    """

    max_items: int = 64
    max_delay_ms: int = 5
    """How long the first item waits for others; 0 where items come in batches already."""
    busy_delay_ms: int = 15
    """The longest wait while calls are slow: the first item waits as long as the last call took, up to this."""
    max_bytes: int = 8_388_608
    """A batch ends before the item that would exceed it. A single item is always sent."""
    throttle_ms: int = 20
    """After a failed call, each item that comes is held back for so long."""
    backoff_first_ms: int = 50
    backoff_max_ms: int = 2_000
    max_faults: int = 5
    max_misses: int = 20
    """Deadlines that a lone item may miss while its servers answer other calls; with the defaults about two minutes."""

    def __post_init__(self) -> None:
        for name in ("max_items", "max_bytes", "backoff_first_ms", "max_faults", "max_misses"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, is {getattr(self, name)}")
        for name in ("max_delay_ms", "busy_delay_ms", "throttle_ms"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} must not be negative, is {getattr(self, name)}")
        if self.backoff_first_ms > self.backoff_max_ms:
            raise SettingsError(
                f"backoff_first_ms ({self.backoff_first_ms}) must not exceed backoff_max_ms ({self.backoff_max_ms})"
            )

    def backoff_ms(self, failures: int) -> int:
        """How long to wait after so many failures in a row (at least one): doubling, up to the last."""
        doublings = min(failures - 1, self.backoff_max_ms.bit_length())
        return min(self.backoff_first_ms << doublings, self.backoff_max_ms)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The pending items `first` up to, not including, `end`; `reason` is set for an isolated item."""

    first: int
    end: int
    reason: BadRecord | None = None

    def __len__(self) -> int:
        return self.end - self.first

    def first_items(self, items: int) -> Attempt:
        """The same attempt with at most so many items."""
        return Attempt(self.first, min(self.end, self.first + items), self.reason)


@dataclass(frozen=True, slots=True)
class Progress:
    """What must survive a restart."""

    head: int = 0
    tail: int = 0
    faults: int = 0
    """Faults counted against the batch at the head."""
    timeouts: int = 0
    """Calls for that batch that a running server did not answer; of a lone item those that missed their deadline."""
    ends: tuple[int, ...] = ()
    """Where the pieces of a halved batch end, the last piece first."""
    isolated: Mapping[int, BadRecord] = field(default_factory=dict)
    """Items that are handled alone, and why."""


class Batcher:
    """The state machine of one operator's pending items. See the module's text for its laws."""

    def __init__(self, policy: BatchPolicy, progress: Progress | None = None, now_ms: int = 0) -> None:
        """Starts empty, or from `progress`: what is pending then is due at `now_ms`."""
        resumed = progress or Progress()
        self._policy = policy
        self._head, self._tail = resumed.head, resumed.tail
        self._faults, self._timeouts = resumed.faults, resumed.timeouts
        self._ends = list(resumed.ends)
        self._isolated = dict(resumed.isolated)
        self._failures = 0
        self._unanswered: tuple[Attempt, InstanceIds, bool] | None = None
        self._due_ms: int | None = now_ms if self.pending else None
        self._held = False
        self._delay_ms = policy.max_delay_ms

    @property
    def pending(self) -> int:
        """How many items wait to be settled."""
        return self._tail - self._head

    @property
    def head(self) -> int:
        """The sequence number of the oldest pending item."""
        return self._head

    @property
    def failing(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    @property
    def needs_ping(self) -> bool:
        """Whether the servers must answer a ping before the next call."""
        return self._unanswered is not None

    @property
    def throttle_ms(self) -> int:
        """How long the next element is held back, for each item that it brings.

        Elements are held back while calls fail, and while nothing may go and a whole batch waits already.
        """
        full = self._held and self.pending >= self._policy.max_items
        return self._policy.throttle_ms if self.failing or full else 0

    @property
    def wake_ms(self) -> int | None:
        """When to ask for an attempt if nothing happens before; None when nothing is pending."""
        return self._due_ms

    def progress(self) -> Progress:
        """What to keep."""
        return Progress(self._head, self._tail, self._faults, self._timeouts, tuple(self._ends), dict(self._isolated))

    def add(self, now_ms: int, count: int = 1) -> int:
        """Takes one or more items; returns the sequence number of the first."""
        sequence = self._tail
        self._tail += count
        if self._due_ms is None:
            self._due_ms = now_ms + self._delay_ms
        return sequence

    def due(self, now_ms: int) -> bool:
        """Whether a batch should be tried now."""
        if self._due_ms is None:
            return False
        waits = self.failing or self._held
        return now_ms >= self._due_ms or (not waits and self.pending >= self._policy.max_items)

    def attempt(self) -> Attempt:
        """What to try in one call: pending items from the head on. At least one must be pending."""
        reason = self._isolated.get(self._head)
        if reason is not None:
            return Attempt(self._head, self._head + 1, reason)
        end = min(self._tail, self._head + self._policy.max_items, *self._ends[-1:])
        return Attempt(self._head, min([end, *(at for at in self._isolated if at > self._head)]))

    def settled(self, attempt: Attempt, count: int, now_ms: int, took_ms: int = 0) -> None:
        """The first `count` items of the attempt are done, by a call that took so long."""
        self._delay_ms = max(self._policy.max_delay_ms, min(took_ms, self._policy.busy_delay_ms))
        self._head = attempt.first + count
        self._isolated = {at: reason for at, reason in self._isolated.items() if at >= self._head}
        while self._ends and self._ends[-1] <= self._head:
            self._ends.pop()
        self._faults = self._timeouts = self._failures = 0
        self._unanswered = None
        self._held = False
        self._due_ms = now_ms if self.pending else None

    def held(self, now_ms: int, wait_ms: int) -> None:
        """The servers answered, but nothing may go yet: the next try comes after this time."""
        self._faults = self._timeouts = self._failures = 0
        self._unanswered = None
        self._held = True
        self._due_ms = now_ms + wait_ms

    def refused(self, attempt: Attempt, sequence: int | None, detail: str, now_ms: int) -> None:
        """The server refuses the item `sequence`, or one that it could not name."""
        if attempt.reason is not None:
            self.back_off(now_ms)
        elif sequence is not None and attempt.first <= sequence < attempt.end:
            self._isolate(sequence, BadRecord(Reason.REFUSED, detail), now_ms)
        else:
            self._halve_or_isolate(attempt, BadRecord(Reason.REFUSED, detail), now_ms)

    def faulted(self, attempt: Attempt, detail: str, now_ms: int) -> None:
        """The server failed on this call."""
        self.back_off(now_ms)
        if attempt.reason is None:
            self._count_fault(attempt, detail, now_ms)

    def unavailable(
        self, attempt: Attempt, instances: InstanceIds, now_ms: int, retry_after_ms: int = 0, missed: bool = False
    ) -> None:
        """No answer, or a request to wait. The next ping tells whether the server died or was only slow.

        Args:
            attempt: What was tried.
            instances: The servers' instance ids as they were known before the call.
            now_ms: The time.
            retry_after_ms: How long the server asked to wait.
            missed: The deadline of the call passed, and nothing else is known.
        """
        self.back_off(now_ms, retry_after_ms)
        if self._unanswered is None and attempt.reason is None:
            self._unanswered = (attempt, instances, missed)

    def back_off(self, now_ms: int, retry_after_ms: int = 0) -> None:
        """Nothing can be done now: the next try comes later."""
        self._failures += 1
        wait_ms = max(self._policy.backoff_ms(self._failures), min(retry_after_ms, self._policy.backoff_max_ms))
        self._due_ms = now_ms + wait_ms

    def answered(self, instances: InstanceIds, now_ms: int) -> None:
        """The servers have answered a ping after an unavailable call."""
        if self._unanswered is None:
            return
        (attempt, before, missed), self._unanswered = self._unanswered, None
        if any(old is not None and old != new for old, new in zip(before, instances, strict=True)):
            self._count_fault(attempt, "the server died during the call", now_ms)
        elif len(attempt) > 1:
            self._timeouts += 1
            if self._timeouts >= self._policy.max_faults:
                self._halve(attempt, now_ms)
        elif missed:
            self._timeouts += 1
            if self._timeouts >= self._policy.max_misses:
                detail = (
                    f"no answer within the deadline ({self._timeouts} times) from a server that answers other calls"
                )
                self._isolate(attempt.first, BadRecord(Reason.FAULTED, detail), now_ms)

    def _count_fault(self, attempt: Attempt, detail: str, now_ms: int) -> None:
        self._faults += 1
        if self._faults >= self._policy.max_faults:
            self._halve_or_isolate(attempt, BadRecord(Reason.FAULTED, f"{detail} ({self._faults} times)"), now_ms)

    def _halve_or_isolate(self, attempt: Attempt, reason: BadRecord, now_ms: int) -> None:
        if len(attempt) > 1:
            self._halve(attempt, now_ms)
        else:
            self._isolate(attempt.first, reason, now_ms)

    def _halve(self, attempt: Attempt, now_ms: int) -> None:
        if not self._ends or self._ends[-1] > attempt.end:
            self._ends.append(attempt.end)
        self._ends.append(attempt.first + len(attempt) // 2)
        self._retry_at_once(now_ms)

    def _isolate(self, sequence: int, reason: BadRecord, now_ms: int) -> None:
        self._isolated[sequence] = reason
        self._retry_at_once(now_ms)

    def _retry_at_once(self, now_ms: int) -> None:
        """The next attempt is a different one: it has no failures yet and is due now."""
        self._faults = self._timeouts = self._failures = 0
        self._unanswered = None
        self._due_ms = now_ms
