"""When pairs are scored, and which together: the pure policy behind the scorer's one queue.

Requests of any size come from many clients. A batch takes pairs of one model version from as many of them as wait. A
version is due when it has pairs for a full batch (`max_pairs`) or its oldest request has waited `max_delay_s`. Large
requests are cut over several batches.

Fair: versions that are due take turns, batch by batch; within a version clients do, `quantum` pairs a turn, and within
a client its requests. So a due version waits for at most one batch of each other version; and a client's lone request
of 100 pairs is done in its version's next batch or the one after, whatever large requests it meets there, as long as
one batch has a turn for every client (1,024 pairs: eight clients). What else the same client asks for takes turns too.

Bounded: what would make the queue longer than `max_queued_pairs` is rejected with a wait; into an empty queue any
permitted request goes. Requests whose deadline has passed, or whose caller is gone, leave the queue unscored.

Times are seconds of any monotonic clock and come in as arguments. Not for several threads at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from core.errors import SettingsError, UnavailableError

__all__ = ["BatchQueue", "Request", "ScoreBatch", "ScoreBatchPolicy", "Slice"]

QUANTUM = 128
"""Pairs of one turn: some hundred candidates of one image, in one padded shape."""


@dataclass(frozen=True, slots=True)
class ScoreBatchPolicy:
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
class ScoreBatch:
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

    policy: ScoreBatchPolicy
    queued_pairs: int = 0
    """Waiting, of all requests."""
    _lines: OrderedDict[str, _Line] = field(default_factory=OrderedDict)
    """One per version that has requests, the one whose turn is next in front; none is empty."""

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
        line = self._lines.get(request.model)
        if line is None:
            line = self._lines[request.model] = _Line()
        line.add(request)
        self.queued_pairs += request.pairs

    def drop_expired(self, now_s: float) -> list[Request]:
        """Takes out what nobody waits for any more."""
        dropped = [one for one in self._waiting() if one.abandoned or one.deadline_s <= now_s]
        for request in dropped:
            line = self._lines[request.model]
            line.remove(request)
            if not line.oldest_first:
                del self._lines[request.model]
            self.queued_pairs -= request.left
        return dropped

    def ready_at(self) -> float | None:
        """When the next batch is due (it may lie in the past); None: nothing waits."""
        return min((line.due(self.policy) for line in self._lines.values()), default=None)

    def take(self, now_s: float) -> ScoreBatch | None:
        """The next batch if one is due: of the version in front among those that are."""
        model = next((model for model, line in self._lines.items() if line.due(self.policy) <= now_s), None)
        if model is None:
            return None
        line = self._lines[model]
        slices = line.take(self.policy)
        self.queued_pairs -= sum(part.stop - part.start for part in slices)
        if line.oldest_first:
            self._lines.move_to_end(model)
        else:
            del self._lines[model]
        return ScoreBatch(model, slices)

    def clear(self) -> list[Request]:
        """Empties the queue and returns what waited."""
        waiting = list(self._waiting())
        self._lines.clear()
        self.queued_pairs = 0
        return waiting

    def _waiting(self) -> Iterator[Request]:
        for line in self._lines.values():
            yield from line.oldest_first


@dataclass(slots=True)
class _Line:
    """What waits for one version."""

    pairs: int = 0
    oldest_first: dict[Request, None] = field(default_factory=dict)
    """All requests, as they came: a set that keeps its order."""
    lanes: OrderedDict[str, OrderedDict[Request, None]] = field(default_factory=OrderedDict)
    """The requests by client; client and request whose turn is next in front; none is empty."""

    def add(self, request: Request) -> None:
        self.oldest_first[request] = None
        self.lanes.setdefault(request.client, OrderedDict())[request] = None
        self.pairs += request.pairs

    def remove(self, request: Request) -> None:
        """Takes a request out, with what of it waits."""
        self.pairs -= request.left
        self._forget(request)

    def due(self, policy: ScoreBatchPolicy) -> float:
        """When a batch of this version is due."""
        return -inf if self.pairs >= policy.max_pairs else next(iter(self.oldest_first)).arrived_s + policy.max_delay_s

    def take(self, policy: ScoreBatchPolicy) -> tuple[Slice, ...]:
        """The pairs of a batch, turn by turn."""
        slices: dict[Request, Slice] = {}
        room = policy.max_pairs
        while room and self.lanes:
            request = next(iter(next(iter(self.lanes.values()))))
            count = min(policy.quantum, request.left, room)
            first = slices[request].start if request in slices else request.taken
            request.taken += count
            slices[request] = Slice(request, first, request.taken)
            self.pairs -= count
            room -= count
            self._end_turn(request)
        return tuple(slices.values())

    def _end_turn(self, request: Request) -> None:
        """Moves client and request to the end of their rows, or out when all is taken."""
        if not request.left:
            self._forget(request)
        else:
            self.lanes[request.client].move_to_end(request)
        if request.client in self.lanes:
            self.lanes.move_to_end(request.client)

    def _forget(self, request: Request) -> None:
        del self.oldest_first[request]
        lane = self.lanes[request.client]
        del lane[request]
        if not lane:
            del self.lanes[request.client]
