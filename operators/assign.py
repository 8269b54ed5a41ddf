"""The last step of the sequence: every image gets its cluster head, written before it counts as done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pyflink.datastream import RuntimeContext

from clustering.assignment import assign
from core.dead_letters import BadRecord, Reason
from core.types import Cause, Decision, Outcome
from operators.assign_backend import GrpcBackend
from operators.batcher import BatchPolicy
from operators.clients import Scorer, Search, Storage, open_scorer, open_search, open_storage
from operators.commit_reporter import CommitReporter
from operators.in_flight_pb2 import InFlight
from operators.metrics import StepMetrics, VerdictMetrics
from operators.micro_batch import MicroBatchFunction
from operators.responses import arrival
from operators.rows import records
from operators.step import Done, ServerAddress, Step
from operators.unscored import hide, mark_unscored

__all__ = ["AssignFunction", "AssignStep"]


class VerdictObserver(Protocol):
    """Who is told what was written: `operators.metrics.VerdictMetrics`."""

    def verdict(self, cause: Cause) -> None:
        """An image moved to a head."""
        ...

    def ignored(self, outcome: Outcome) -> None:
        """A record only advanced the position."""
        ...

    def took(self, seconds: Sequence[float]) -> None:
        """So long from the later halves to the synced verdicts."""
        ...


class AssignStep(Step[bytes]):
    """Decides and writes a batch, or the front of one."""

    def __init__(
        self,
        search: Search,
        scorer: Scorer,
        storage: Storage,
        log_id: str,
        joined_topic: str,
        verdicts: VerdictObserver,
        unscored: Callable[[Reason], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Takes the clients.

        Args:
            search: Of the search server.
            scorer: Of the scorer.
            storage: Of the storage server; its failures are waited out and never held against an image.
            log_id: Topic id of `joined`.
            joined_topic: Its name, for dead letters.
            verdicts: Told what was written.
            unscored: Told the reason of each record that is written without its scores.
            clock: Seconds since the epoch.
        """
        super().__init__([search, scorer, storage], blamed=[search, scorer])
        self._search = search
        self._joined_topic = joined_topic
        self._verdicts = verdicts
        self._unscored = unscored
        self._clock = clock
        self._releases = CommitReporter(search, log_id)
        self._ports = GrpcBackend(search, scorer, storage, log_id, self._written)

    def offset(self, item: bytes) -> int:
        """Where the record lies in `joined`."""
        return int(InFlight.FromString(item).offset)

    def size(self, item: bytes) -> int:
        """Its bytes: vectors and codes come back in the write."""
        return len(item)

    def call(self, items: Sequence[bytes]) -> Done:
        """Decides on the records, in order, and writes what is decided."""
        return Done(self._assign([InFlight.FromString(item) for item in items]))

    def isolate(self, item: bytes, bad: BadRecord) -> Done:
        """The image becomes its own head, hidden from later ones."""
        one = InFlight.FromString(item)
        hide(self._search, one)
        dead_letter = mark_unscored(one, bad, self._joined_topic)
        self._assign([one])
        self._unscored(bad.reason)
        return Done(1, [dead_letter])

    def _assign(self, batch: Sequence[InFlight]) -> int:
        return assign([arrival(one) for one in batch], self._ports, self._now_ms())

    def _now_ms(self) -> int:
        return round(1000 * self._clock())

    def _written(self, decisions: Sequence[Decision]) -> None:
        now_ms = self._now_ms()
        for decision in decisions:
            if decision.outcome is not Outcome.DECIDED:
                self._verdicts.ignored(decision.outcome)
            for move in decision.moves:
                self._verdicts.verdict(move.cause)
        decided = [each for each in decisions if each.outcome is Outcome.DECIDED and each.arrived_at_ms]
        self._verdicts.took([max(0, now_ms - each.arrived_at_ms) / 1000 for each in decided])
        if decisions:
            self._releases.committed(decisions[-1].offset)


class AssignFunction(MicroBatchFunction[bytes]):
    """`InFlightBatch` bytes in, nothing out but dead letters: verdicts go to storage, which publishes them."""

    def __init__(
        self,
        policy: BatchPolicy,
        search: ServerAddress,
        scorer: ServerAddress,
        storage: ServerAddress,
        log_id: str,
        joined_topic: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Keeps settings.

        Args:
            policy: How records are batched and failures met.
            search: The search server.
            scorer: The scorer.
            storage: The storage server.
            log_id: Topic id of `joined`.
            joined_topic: Its name, for dead letters.
            sleep: Holds an element back; takes seconds.
        """
        super().__init__(policy, sleep)
        self._servers = (search, scorer, storage)
        self._log_id = log_id
        self._joined_topic = joined_topic

    def open_step(self, context: RuntimeContext) -> Step[bytes]:
        """Connects to the three servers."""
        search, scorer, storage = self._servers
        return AssignStep(
            open_search(search),
            open_scorer(scorer),
            open_storage(storage),
            self._log_id,
            self._joined_topic,
            VerdictMetrics(context),
            StepMetrics(context).unscored,
        )

    def items(self, value: bytes) -> Sequence[bytes]:
        """The records of a batch."""
        return records(value)
