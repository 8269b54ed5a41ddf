"""When pairs are scored, and which together: the pure policy behind the scorer's one queue.

Requests of any size come from many clients. A batch takes pairs of one model version from as many of them as wait,
until it is full (`max_pairs`) or the oldest has waited `max_delay_s`. Large requests are cut over several batches.

Fair: clients take turns, and within a client its requests do, `quantum` pairs a turn. So a request of 100 pairs is
done in the next batch or the one after, whatever large requests it meets.

Bounded: what would make the queue longer than `max_queued_pairs` is turned away with a wait; into an empty queue any
permitted request goes. Requests whose deadline has passed, or whose caller is gone, leave the queue unscored.

Times are seconds of any monotonic clock and come in as arguments. Not for several threads at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from search.errors import SettingsError, UnavailableError

__all__ = ["Batch", "BatchPolicy", "BatchQueue", "Request", "Slice"]

QUANTUM = 128
"""Pairs of one turn: some hundred candidates of one image, in one padded shape."""


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """Limits of batches and of the queue."""

    max_pairs: int = 1024
    """Of one run of the model; its largest padded shape is the best value."""
    max_delay_s: float = 0.0005
    """The longest a request waits for company."""
    max_queued_pairs: int = 400_000
    """Some two seconds of work for the sample's model on one core."""
    quantum: int = QUANTUM
    """Pairs that a request gets per turn."""

    def __post_init__(self) -> None:
        """Checks the values against each other."""
        if not 1 <= self.quantum <= self.max_pairs <= self.max_queued_pairs:
            raise SettingsError(
                f"1 <= quantum ({self.quantum}) <= max_pairs ({self.max_pairs}) <= max_queued_pairs "
                f"({self.max_queued_pairs}) does not hold"
            )
        if self.max_delay_s < 0:
            raise SettingsError(f"max_delay_s must not be negative: {self.max_delay_s}")


@dataclass(eq=False, slots=True)
class Request:
    """Pairs that a caller waits for; the pairs themselves lie with the caller."""

    client: str
    model: str
    pairs: int
    """At least 1."""
    arrived_s: float
    deadline_s: float = inf
    taken: int = 0
    """So many, from the front, were put into batches."""
    abandoned: bool = False
    """Set by anyone when nobody waits any more; the queue drops it at the next look."""

    @property
    def left(self) -> int:
        """Pairs that wait."""
        return self.pairs - self.taken


@dataclass(frozen=True, slots=True)
class Slice:
    """The pairs `start` to `stop` of a request."""

    request: Request
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs to be scored together, by one model version."""

    model: str
    slices: tuple[Slice, ...]

    @property
    def pairs(self) -> int:
        """How many."""
        return sum(part.stop - part.start for part in self.slices)


@dataclass
class BatchQueue:
    """The queue under a policy."""

    policy: BatchPolicy
    queued_pairs: int = 0
    """Waiting, of all requests."""
    _lanes: deque[deque[Request]] = field(default_factory=deque)
    """One per client that has requests, the one whose turn is next in front; none is empty."""

    def offer(self, request: Request) -> None:
        """Puts a request into the queue.

        Raises:
            UnavailableError: The queue is full.
        """
        if self.queued_pairs and self.queued_pairs + request.pairs > self.policy.max_queued_pairs:
            raise UnavailableError(
                f"the scorer's queue is full: {self.queued_pairs} pairs wait, {request.pairs} more would exceed "
                f"{self.policy.max_queued_pairs}",
                retry_after_s=max(0.01, 10 * self.policy.max_delay_s),
            )
        lane = next((lane for lane in self._lanes if lane[0].client == request.client), None)
        if lane is None:
            self._lanes.append(deque([request]))
        else:
            lane.append(request)
        self.queued_pairs += request.pairs

    def drop_expired(self, now_s: float) -> list[Request]:
        """Takes out what nobody waits for any more."""
        dropped = [one for one in self._waiting() if one.abandoned or one.deadline_s <= now_s]
        for request in dropped:
            lane = next(lane for lane in self._lanes if request in lane)
            lane.remove(request)
            if not lane:
                self._lanes.remove(lane)
            self.queued_pairs -= request.left
        return dropped

    def ready_at(self) -> float | None:
        """When the next batch is due (it may lie in the past); None: nothing waits."""
        oldest = self._oldest()
        if oldest is None:
            return None
        waiting = sum(one.left for one in self._waiting() if one.model == oldest.model)
        return -inf if waiting >= self.policy.max_pairs else oldest.arrived_s + self.policy.max_delay_s

    def take(self, now_s: float) -> Batch | None:
        """The next batch if it is due, of the model whose request has waited longest."""
        due, oldest = self.ready_at(), self._oldest()
        if due is None or oldest is None or due > now_s:
            return None
        slices: dict[Request, Slice] = {}
        room = self.policy.max_pairs
        while room and (request := self._next_turn(oldest.model)) is not None:
            count = min(self.policy.quantum, request.left, room)
            first = slices[request].start if request in slices else request.taken
            request.taken += count
            slices[request] = Slice(request, first, request.taken)
            self.queued_pairs -= count
            room -= count
            self._end_turn(request)
        return Batch(oldest.model, tuple(slices.values()))

    def clear(self) -> list[Request]:
        """Empties the queue and returns what waited."""
        waiting = list(self._waiting())
        self._lanes.clear()
        self.queued_pairs = 0
        return waiting

    def _waiting(self) -> Iterator[Request]:
        for lane in self._lanes:
            yield from lane

    def _oldest(self) -> Request | None:
        return min(self._waiting(), key=lambda one: one.arrived_s, default=None)

    def _next_turn(self, model: str) -> Request | None:
        """The request whose turn it is, among those of a model."""
        for lane in self._lanes:
            for request in lane:
                if request.model == model:
                    return request
        return None

    def _end_turn(self, request: Request) -> None:
        """Moves client and request to the end of their rows, or out when all is taken."""
        lane = next(lane for lane in self._lanes if request in lane)
        self._lanes.remove(lane)
        lane.remove(request)
        if request.left:
            lane.append(request)
        if lane:
            self._lanes.append(lane)
