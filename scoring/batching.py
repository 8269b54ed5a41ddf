"""When pairs are scored, and which ones together: the pure policy of the scorer's queue.

Requests of any size come from many clients. A batch takes pairs of one model version, from as many requests as wait. A
version is due when it has enough pairs for a full batch (`max_pairs`), or when its oldest request has waited for
`max_delay_s`. Large requests are split over several batches.

Fair: due versions take turns, one batch each. Within a version the clients take turns, `quantum` pairs each. Within a
client its requests take turns. So a due version waits for at most one batch of each other version. A client's only
request of 100 pairs is done in its version's next batch or the one after, whatever large requests others have sent, as
long as a batch has a turn for every client (1,024 pairs: eight clients).

Bounded: a request that would make the queue longer than `max_queued_pairs` is rejected with a wait. An empty queue
takes any request. Requests leave the queue unscored when their deadline has passed or their caller is gone.

Times are seconds of any monotonic clock and come in as arguments. Not thread-safe.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from core.errors import SettingsError, UnavailableError

__all__ = ["BatchQueue", "Request", "ScoreBatch", "ScoreBatchPolicy", "Slice"]

QUANTUM = 128
"""Pairs per turn: about the candidates of one image, in one padded shape."""


@dataclass(frozen=True, slots=True)
class ScoreBatchPolicy:
    """Limits of batches and of the queue."""

    max_pairs: int = 1024
    """Pairs per run of the model; `PairModel.batch_pairs` is the best value."""
    max_delay_s: float = 0.0005
    """The longest time that a request waits for a batch to fill."""
    max_queued_pairs: int = 400_000
    """About one second of work for the sample's model on one core."""
    quantum: int = QUANTUM
    """Pairs that a client gets per turn."""

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
    """Pairs that a caller waits for; the caller keeps the pairs themselves."""

    client: str
    model: str
    pairs: int
    """At least 1."""
    arrived_s: float
    deadline_s: float = inf
    taken: int = 0
    """Pairs, from the front, that were put into batches."""
    abandoned: bool = False
    """Set when no caller waits any more; the queue drops the request at its next `drop_expired`."""

    @property
    def left(self) -> int:
        """Pairs that still wait."""
        return self.pairs - self.taken


@dataclass(frozen=True, slots=True)
class Slice:
    """The pairs `start` to `stop` of a request."""

    request: Request
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ScoreBatch:
    """Pairs that are scored together, by one model version."""

    model: str
    slices: tuple[Slice, ...]

    @property
    def pairs(self) -> int:
        """How many pairs."""
        return sum(part.stop - part.start for part in self.slices)


@dataclass
class BatchQueue:
    """The queue under a policy."""

    policy: ScoreBatchPolicy
    queued_pairs: int = 0
    """Pairs that wait, of all requests."""
    _lines: OrderedDict[str, _Line] = field(default_factory=OrderedDict)
    """One line per version that has requests; the version whose turn is next comes first. No line is empty."""

    def offer(self, request: Request) -> None:
        """Adds a request to the queue.

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
        """Removes and returns the requests that are expired or abandoned."""
        dropped = [one for one in self._waiting() if one.abandoned or one.deadline_s <= now_s]
        for request in dropped:
            line = self._lines[request.model]
            line.remove(request)
            if not line.oldest_first:
                del self._lines[request.model]
            self.queued_pairs -= request.left
        return dropped

    def ready_at(self) -> float | None:
        """When the next batch is due (perhaps in the past); None: nothing waits."""
        return min((line.due(self.policy) for line in self._lines.values()), default=None)

    def take(self, now_s: float) -> ScoreBatch | None:
        """The next batch if one is due: that of the first due version."""
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
    """The requests that wait for one version."""

    pairs: int = 0
    oldest_first: dict[Request, None] = field(default_factory=dict)
    """All requests in order of arrival; used as an ordered set."""
    lanes: OrderedDict[str, OrderedDict[Request, None]] = field(default_factory=OrderedDict)
    """The requests by client. The client and the request whose turn is next come first. No lane is empty."""

    def add(self, request: Request) -> None:
        self.oldest_first[request] = None
        self.lanes.setdefault(request.client, OrderedDict())[request] = None
        self.pairs += request.pairs

    def remove(self, request: Request) -> None:
        """Removes a request and its waiting pairs."""
        self.pairs -= request.left
        self._forget(request)

    def due(self, policy: ScoreBatchPolicy) -> float:
        """When a batch of this version is due."""
        return -inf if self.pairs >= policy.max_pairs else next(iter(self.oldest_first)).arrived_s + policy.max_delay_s

    def take(self, policy: ScoreBatchPolicy) -> tuple[Slice, ...]:
        """The pairs of one batch, turn by turn."""
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
        """Moves client and request to the end of the line; removes a request whose pairs are all taken."""
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
