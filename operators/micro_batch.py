"""The micro-batching base of search, score and assign: one call for many elements, one call per element or timer.

The stream is keyed by one constant and runs at parallelism 1. `PendingItems` keeps what is pending in Flink state. The
pure `Batcher` decides when to try and what a failure means. The `Step` makes the call. This class connects them to
Flink: elements, processing-time timers, errors, metrics.

While a server does not answer, nothing raises. Each further element is held back for `throttle_ms` an item and stored,
so that barriers and cancellation pass, and a timer tries again. So it is while a step lets nothing go and a whole batch
waits: the rest stays in Kafka. Two kinds of errors fail the job: a `LogGapError`, so that the job is submitted again
from where the stores are, and an error that waiting cannot repair (parts made for different settings, a bug).
"""

from __future__ import annotations

import logging
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, TimerService
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from core.errors import DeadlineError, FaultError, LogGapError, RefusedError, ServiceError, UnavailableError
from operators.batcher import Attempt, BatchPolicy
from operators.item_times import ItemTimes
from operators.metrics import BatchMetrics, FailureKind
from operators.pending import PendingItems
from operators.rows import records
from operators.state_bytes import StateBytes
from operators.step import Step, StepResult

__all__ = ["SWITCH_INTERVAL_S", "MicroBatchFunction"]

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""How soon a Python thread yields to another. All operators of a task manager share one GIL: the default of 5 ms would
be added to every hand-over between them."""


class MicroBatchFunction(KeyedProcessFunction):  # type: ignore[misc]
    """A step of the sequence as a Flink function."""

    def __init__(self, policy: BatchPolicy, sleep: Callable[[float], None] = time.sleep) -> None:
        """Keeps settings; everything live begins in `open`.

        Args:
            policy: How items are batched and failures met.
            sleep: Holds an element back; takes seconds.
        """
        self._policy = policy
        self._sleep = sleep

    @abstractmethod
    def open_step(self, context: RuntimeContext) -> Step:
        """Connects to the servers."""

    def items(self, value: Any) -> Sequence[bytes]:
        """The serialised `InFlight` records of an element, at least one; by default, it is an `InFlightBatch`."""
        return records(value)

    def open(self, runtime_context: RuntimeContext) -> None:
        """Called by Flink at the start of the task."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._chunks = runtime_context.get_map_state(MapStateDescriptor("pending", Types.LONG(), StateBytes()))
        self._saved = runtime_context.get_state(ValueStateDescriptor("progress", StateBytes()))
        self._metrics = BatchMetrics(runtime_context)
        self._pending: PendingItems | None = None
        self._times = ItemTimes()
        self._armed_ms: int | None = None
        self._step = self.open_step(runtime_context)

    def close(self) -> None:
        """Called by Flink at the end of the task, also after a failed start."""
        step: Step | None = getattr(self, "_step", None)
        if step is not None:
            step.close()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Sequence[Any]:
        """Stores what the element brings; tries a batch if one is due."""
        timers = ctx.timer_service()
        pending = self._resumed(timers)
        items = self.items(value)
        if pending.batcher.throttle_ms:
            self._sleep(len(items) * pending.batcher.throttle_ms / 1000)
        now_ms = timers.current_processing_time()
        self._times.entered(pending.add(items, now_ms), now_ms)
        return self._run(pending, timers)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Sequence[Any]:
        """Tries a batch if one is due."""
        timers = ctx.timer_service()
        if timestamp == self._armed_ms:
            self._armed_ms = None
        return self._run(self._resumed(timers), timers)

    def _resumed(self, timers: TimerService) -> PendingItems:
        if self._pending is None:
            now_ms = timers.current_processing_time()
            self._pending = PendingItems(self._policy, self._chunks, self._saved, now_ms)
            if self._pending.batcher.pending:
                self._times.entered(self._pending.batcher.head, now_ms)
        return self._pending

    def _run(self, pending: PendingItems, timers: TimerService) -> Sequence[Any]:
        clock: Callable[[], int] = timers.current_processing_time
        outputs: Sequence[Any] = ()
        if pending.batcher.due(clock()) and self._servers_answer(pending, clock):
            outputs = self._try(pending, clock)
        pending.flush()
        self._arm(pending.batcher.wake_ms, timers)
        return outputs

    def _arm(self, wake_ms: int | None, timers: TimerService) -> None:
        """Sees to it that a timer fires at the next wake time or before; one that fires too early arms the next.

        No timer is ever deleted. A deleted one may have its wake-up in the task's mailbox already. Flink then schedules
        the next timer once more, and once more after each such wake-up, until no timer is left: while records wait all
        the time, ever more wake-ups would come for each timer.
        """
        if wake_ms is not None and (self._armed_ms is None or wake_ms < self._armed_ms):
            timers.register_processing_time_timer(wake_ms)
            self._armed_ms = wake_ms

    def _servers_answer(self, pending: PendingItems, clock: Callable[[], int]) -> bool:
        """Pings the servers after an unanswered call. Their instance ids tell whether that call killed one."""
        if not pending.batcher.needs_ping:
            return True
        try:
            self._step.ping()
        except ServiceError as error:
            pending.batcher.back_off(clock(), _retry_after_ms(error))
            self._metrics.state(pending.batcher.pending, waiting=True)
            return False
        pending.batcher.answered(self._step.instance_ids(), clock())
        return True

    def _try(self, pending: PendingItems, clock: Callable[[], int]) -> Sequence[Any]:
        whole = pending.batcher.attempt()
        items = pending.read(whole)
        attempt = whole.first_items(len(items))
        failing = pending.batcher.failing
        instances = self._step.instance_ids()
        started_ms, started_s = clock(), time.perf_counter()
        self._step.timing = self._times.timing(attempt.first, attempt.end, clock)
        try:
            result = self._call(attempt, items)
        except LogGapError as error:
            self._metrics.failed(FailureKind.OTHER)
            raise LogGapError(f"LogGapError: {error}", error.expected) from error
        except RefusedError as error:
            self._failed(FailureKind.REFUSED, error, attempt, failing)
            at = next((i for i, item in enumerate(items) if self._step.offset(item) == error.offset), None)
            pending.batcher.refused(attempt, None if at is None else attempt.first + at, str(error), clock())
        except FaultError as error:
            self._failed(FailureKind.FAULT, error, attempt, failing)
            pending.batcher.faulted(attempt, str(error), clock())
        except UnavailableError as error:
            self._failed(FailureKind.UNAVAILABLE, error, attempt, failing)
            missed = isinstance(error, DeadlineError)
            pending.batcher.unavailable(attempt, instances, clock(), _retry_after_ms(error), missed)
        except ServiceError as error:
            self._failed(FailureKind.OTHER, error, attempt, failing)
            pending.batcher.back_off(clock())
        else:
            if failing:
                log.info("%s: a call succeeded again, %d items pending", self._name, pending.batcher.pending)
            now_ms = clock()
            if not result.count:
                pending.batcher.held(now_ms, result.wait_ms)
                return ()
            pending.settle(attempt, result.count, now_ms, now_ms - started_ms)
            self._times.settled(pending.batcher.head)
            self._settled(attempt, result.count)
            return result.outputs
        finally:
            self._metrics.called(time.perf_counter() - started_s)
            self._metrics.state(pending.batcher.pending, pending.batcher.failing)
        return ()

    def _call(self, attempt: Attempt, items: Sequence[bytes]) -> StepResult:
        result = self._step.call(items) if attempt.reason is None else self._step.isolate(items[0], attempt.reason)
        if not result.count <= len(items) or (result.count <= 0 and not result.wait_ms):
            raise FaultError(f"{result.count} of {len(items)} items were settled")
        return result

    def _settled(self, attempt: Attempt, count: int) -> None:
        self._metrics.settled(count)
        if attempt.reason is not None:
            log.warning("%s: one item was isolated: %s: %s", self._name, attempt.reason.reason, attempt.reason.detail)
            self._metrics.isolated(attempt.reason.reason)

    def _failed(self, kind: FailureKind, error: ServiceError, attempt: Attempt, failing: bool) -> None:
        self._metrics.failed(kind)
        self._times.failed(attempt.end)
        if not failing:  # once per outage, not once per try
            log.warning("%s: a call with %d items failed (%s): %s", self._name, len(attempt), kind, error)

    @property
    def _name(self) -> str:
        return type(self).__name__


def _retry_after_ms(error: ServiceError) -> int:
    wait_s = error.retry_after_s if isinstance(error, UnavailableError) else None
    return 0 if wait_s is None else round(wait_s * 1000)
