"""The scorer's queue and its worker threads: callers wait while batches run.

Each thread runs one batch at a time. While one thread assembles a batch or distributes its scores, the others compute.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, UnavailableError
from scoring.batching import BatchQueue, Request, ScoreBatch, ScoreBatchPolicy
from scoring.model import PairModel
from scoring.serving.metrics import ScorerMetrics

__all__ = ["ModelFailedError", "ScoreJob", "ScorerEngine"]

log = logging.getLogger(__name__)

_IDLE_LOOK_S = 0.5
"""While requests wait, expired ones are looked for at least this often."""


class ModelFailedError(Exception):
    """The model raised an error. That is a bug or a broken machine, so it is not in `core.errors`: callers get a
    fault."""


@dataclass(eq=False, slots=True)
class ScoreJob:
    """One caller's pairs: packed codes (n, bytes), the model that scores them, and the result."""

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    model: PairModel
    request: Request
    scores: NDArray[np.float32]
    scored: int = 0
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)


class ScorerEngine:
    """Scores pairs for many concurrent callers, in micro-batches."""

    def __init__(
        self,
        policy: ScoreBatchPolicy,
        metrics: ScorerMetrics,
        threads: int = 1,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Starts the threads.

        Args:
            policy: Limits of batches and queue.
            metrics: Updated with every batch.
            threads: Batches that run at a time.
            clock: Monotonic seconds.
        """
        self._queue = BatchQueue(policy)
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[Request, ScoreJob] = {}
        self._changed = threading.Condition()
        self._stopped = False
        metrics.queued.set_function(lambda: self._queue.queued_pairs)
        self._threads = [
            threading.Thread(target=self._work, name=f"scorer-engine-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def score(
        self,
        client: str,
        model: PairModel,
        left: NDArray[np.uint8],
        right: NDArray[np.uint8],
        deadline_s: float = inf,
        on_submitted: Callable[[Callable[[], None]], None] | None = None,
    ) -> NDArray[np.float32]:
        """Scores pairs; blocks until they are done.

        Args:
            client: The client id, for fair scheduling.
            model: Scores the pairs.
            left: Packed codes (n, bytes).
            right: The codes of the other images, of the same shape.
            deadline_s: The longest that the caller waits, in seconds.
            on_submitted: Called with a function that withdraws the request, for when the caller is gone.

        Raises:
            UnavailableError: The queue is full, the deadline passed, or the engine is stopping.
            ModelFailedError: The model raised an error on the batch.
            BadInputError: The codes do not fit the model.
        """
        if not len(left):
            return np.empty(0, dtype=np.float32)
        pairs = self._submit(client, model, left, right, deadline_s)
        if on_submitted is not None:
            on_submitted(lambda: self._withdraw(pairs))
        if not pairs.done.wait(None if deadline_s == inf else deadline_s):
            self._withdraw(pairs)
            raise UnavailableError(f"the deadline passed after {deadline_s:.3f} s in the scorer's queue")
        if pairs.error is not None:
            raise pairs.error
        return pairs.scores

    def stop(self) -> None:
        """Ends the threads. Requests that still wait fail with UnavailableError."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _submit(
        self,
        client: str,
        model: PairModel,
        left: NDArray[np.uint8],
        right: NDArray[np.uint8],
        deadline_s: float,
    ) -> ScoreJob:
        now = self._clock()
        request = Request(client, model.card.version, len(left), now, now + deadline_s)
        pairs = ScoreJob(left, right, model, request, np.empty(len(left), dtype=np.float32))
        with self._changed:
            if self._stopped:
                raise UnavailableError("the scorer is stopping")
            try:
                self._queue.offer(request)
            except UnavailableError:
                self._metrics.rejected.inc()
                raise
            self._waiting[request] = pairs
            self._changed.notify()
        return pairs

    def _withdraw(self, pairs: ScoreJob) -> None:
        with self._changed:
            pairs.request.abandoned = True
            self._changed.notify()

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._run(batch)
        with self._changed:
            left, self._waiting = list(self._waiting.values()), {}
            self._queue.clear()
        for pairs in left:
            pairs.error = UnavailableError("the scorer is stopping")
            pairs.done.set()

    def _next_batch(self) -> ScoreBatch | None:
        """Waits for a batch; None when the engine stops."""
        with self._changed:
            while not self._stopped:
                now = self._clock()
                self._drop_expired(now)
                batch = self._queue.take(now)
                if batch is not None:
                    if self._queue.queued_pairs:
                        self._changed.notify()  # another thread may be waiting for work
                    return batch
                due = self._queue.ready_at()
                self._changed.wait(None if due is None else min(_IDLE_LOOK_S, max(0.0, due - now)))
            return None

    def _drop_expired(self, now_s: float) -> None:
        for request in self._queue.drop_expired(now_s):
            self._metrics.expired.inc()
            pairs = self._waiting.pop(request, None)
            if pairs is not None:
                self._fail(pairs, UnavailableError("the deadline passed in the scorer's queue"))

    def _run(self, batch: ScoreBatch) -> None:
        # A request is gone if another batch with pairs of it has failed meanwhile.
        with self._changed:
            found = [(self._waiting.get(part.request), part) for part in batch.slices]
        parts = [(pairs, part) for pairs, part in found if pairs is not None]
        if not parts:
            return
        started = self._clock()
        for pairs, part in parts:
            if part.start == 0:
                self._metrics.queue_seconds.observe(max(0.0, started - pairs.request.arrived_s))
        try:
            left = _together([pairs.left[part.start : part.stop] for pairs, part in parts])
            right = _together([pairs.right[part.start : part.stop] for pairs, part in parts])
            scores = parts[0][0].model.score(left, right)
        except Exception as error:
            # A model may raise anything. The waiting callers must be told, and the thread must go on.
            log.exception("the model %s failed on a batch of %d pairs", batch.model, batch.pairs)
            self._fail_batch(batch, error)
            return
        self._metrics.batch(batch.pairs, self._clock() - started, scores)
        at = 0
        for pairs, part in parts:
            count = part.stop - part.start
            pairs.scores[part.start : part.stop] = scores[at : at + count]
            at += count
            self._count(pairs, count)

    def _count(self, pairs: ScoreJob, scored: int) -> None:
        """Counts the scored pairs of a caller, and wakes the caller after the last."""
        with self._changed:
            pairs.scored += scored
            if pairs.scored < len(pairs.scores):
                return
            self._waiting.pop(pairs.request, None)
        pairs.done.set()

    def _fail_batch(self, batch: ScoreBatch, error: Exception) -> None:
        refused = error if isinstance(error, BadInputError) else None
        with self._changed:
            for part in batch.slices:
                part.request.abandoned = True
                pairs = self._waiting.pop(part.request, None)
                if pairs is not None:
                    self._fail(pairs, refused or ModelFailedError(f"the model {batch.model} failed: {error}"))
            self._drop_expired(-inf)

    @staticmethod
    def _fail(pairs: ScoreJob, error: Exception) -> None:
        pairs.error = error
        pairs.done.set()


def _together(parts: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The rows of all parts; a single part is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
