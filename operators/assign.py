"""The last step of the sequence: it decides the head of each image and writes it to storage."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from pyflink.datastream import RuntimeContext

from clustering.assignment import Arrival, assign
from core.dead_letters import BadRecord, Reason
from core.errors import ServiceError
from core.notifications import JoinedContent
from core.overrides import JOB_KINDS
from core.types import Decision
from operators.assign_backend import GrpcBackend
from operators.batcher import BatchPolicy
from operators.clients import Scorer, Search, Storage, open_scorer, open_search, open_storage
from operators.commit_reporter import CommitReporter
from operators.hiding import Hiding
from operators.in_flight_pb2 import InFlight
from operators.metrics import StepMetrics
from operators.micro_batch import MicroBatchFunction
from operators.responses import arrival, content_of
from operators.scorer_probe import probe
from operators.search import LogEpoch
from operators.step import ServerAddress, Step, StepResult
from operators.tracer import Tracer, Tracing
from operators.tracing import BatchTracer
from operators.unscored import dead_letter_of, mark_unscored

__all__ = ["AssignFunction", "AssignStep"]

log = logging.getLogger(__name__)


class AssignStep(Step):
    """Decides and writes a batch, or the front of one."""

    def __init__(
        self,
        search: Search,
        scorer: Scorer,
        storage: Storage,
        log: LogEpoch,
        unscored: Callable[[Reason], None],
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Takes the clients.

        Args:
            search: Of the search server.
            scorer: Of the scorer.
            storage: Of the storage server. Its failures are waited out and never count against an image.
            log: The log epoch that the records are of.
            unscored: Told the reason of each record that is written without its scores.
            tracer: What traces say.
            clock: Seconds since the epoch.
        """
        super().__init__([search, scorer, storage], blamed=[search, scorer])
        self._scorer = scorer
        self._log = log
        self._storage = storage
        self._unscored = unscored
        self._tracer = tracer or Tracer()
        self._clock = clock
        self._hiding = Hiding(search, storage)
        self._reporter = CommitReporter(search, log.log_id, self._hiding.catch_up)
        self._backend = GrpcBackend(search, scorer, storage, log.log_id, self._written, log.base)

    def declare_kinds(self) -> None:
        """Tells storage which kinds of records this job knows, so that writers need not wait for the next image.

        Raises:
            MismatchError: Records of another kind may lie in the order.
        """
        try:
            at = self._storage.describe()
            self._storage.apply(self._log.log_id, (), at.offset, at.revision, JOB_KINDS)
        except ServiceError as error:
            log.info("storage learns with the first write which kinds of records this job knows: %s", error)

    def call(self, items: Sequence[bytes]) -> StepResult:
        """Decides on the records, in order, and writes what is decided."""
        return self._assign([InFlight.FromString(item) for item in items])

    def isolate(self, item: bytes, bad: BadRecord) -> StepResult:
        """The image becomes its own head, hidden from later ones."""
        one = InFlight.FromString(item)
        mark_unscored(one, bad)
        result = self._assign([one])
        self._unscored(bad.reason)
        return result

    def ping(self) -> None:
        """See `Step`; the scorer must also score."""
        super().ping()
        probe(self._scorer)

    def _assign(self, batch: Sequence[InFlight]) -> StepResult:
        arrivals = [self._arrival(one, content_of(one)) for one in batch]
        tracer = BatchTracer(batch, self.timing, self._backend.numbers, self._tracer.stamp)
        count = assign(arrivals, self._backend, round(1000 * self._clock()), committed=tracer.committed)
        first = batch[0].offset
        return StepResult(
            count,
            [
                output
                for trace in tracer.traces(self._storage.written_at)
                for output in self._tracer.output(trace, batch[trace.position - first].traceparent)
            ],
        )

    def _arrival(self, one: InFlight, content: JoinedContent | None) -> Arrival:
        return arrival(one, content, dead_letter_of(one, content, self._log.topic))

    def _written(self, decisions: Sequence[Decision]) -> None:
        if decisions:
            # The index erases an image only after this report, and no other record may come for long.
            forgets = any(each.forget for each in decisions)
            soon = not self._hiding.written(decisions)
            self._reporter.committed(decisions[-1].offset, soon=soon, at_once=forgets)


class AssignFunction(MicroBatchFunction):
    """`InFlightBatch` bytes in, traces aside: verdicts and dead letters go to storage, which publishes them."""

    def __init__(
        self,
        policy: BatchPolicy,
        search: ServerAddress,
        scorer: ServerAddress,
        storage: ServerAddress,
        log: LogEpoch,
        tracing: Tracing | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Keeps settings.

        Args:
            policy: How records are batched and failures met.
            search: The search server.
            scorer: The scorer.
            storage: The storage server.
            log: The log epoch that the records are of.
            tracing: What traces say.
            sleep: Holds an element back; takes seconds.
        """
        super().__init__(policy, sleep)
        self._servers = (search, scorer, storage)
        self._log = log
        self._tracing = tracing

    def open_step(self, context: RuntimeContext) -> Step:
        """Connects to the three servers."""
        search, scorer, storage = self._servers
        metrics = StepMetrics(context)
        step = AssignStep(
            open_search(search),
            open_scorer(scorer),
            open_storage(storage),
            self._log,
            metrics.unscored,
            Tracer(self._tracing, metrics.traced),
        )
        step.declare_kinds()
        return step
