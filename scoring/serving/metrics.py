"""Every metric of the scorer: names, labels and buckets, once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from core.call_metrics import CALL_SECONDS, CallMetrics

__all__ = ["ScorerMetrics"]

METHODS = ("Score", "Describe")
"""The methods of the server."""

_BATCH = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_SCORES = (0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)


class ScorerMetrics:
    """The metrics of one scorer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers all metrics."""
        self.call = CallMetrics("scorer", METHODS, registry).call
        self.pairs = Counter("neardup_scorer_pairs_total", "Pairs that were scored", registry=registry)
        self.batch_pairs = Histogram(
            "neardup_scorer_batch_pairs", "Pairs of one run of the model", buckets=_BATCH, registry=registry
        )
        self.queue_seconds = Histogram(
            "neardup_scorer_queue_seconds",
            "Time from the arrival of a request to the first batch with pairs of it",
            buckets=CALL_SECONDS,
            registry=registry,
        )
        self.run_seconds = Histogram(
            "neardup_scorer_run_seconds", "Duration of one run of the model", buckets=CALL_SECONDS, registry=registry
        )
        self.rejected = Counter(
            "neardup_scorer_rejected_requests_total",
            "Requests that were rejected because the queue was full",
            registry=registry,
        )
        self.expired = Counter(
            "neardup_scorer_expired_requests_total",
            "Requests that left the queue unscored: deadline passed, caller gone, or another batch of them failed",
            registry=registry,
        )
        self.queued = Gauge("neardup_scorer_queued_pairs", "Pairs that wait in the queue", registry=registry)
        self.model = Gauge("neardup_scorer_model_info", "1 for the served version", ["version"], registry=registry)
        self.refused_model = Gauge(
            "neardup_scorer_model_refused",
            "1 while the version in the file `served` cannot be served, so that the one before it still is",
            registry=registry,
        )
        self._scores = _ScoreHistogram()
        registry.register(self._scores)
        ProcessCollector(registry=registry)

    def serves(self, version: str) -> None:
        """Sets the served version."""
        self.model.clear()
        self.model.labels(version).set(1)

    def batch(self, pairs: int, seconds: float, scores: NDArray[np.float32]) -> None:
        """Counts one run of the model."""
        self.pairs.inc(pairs)
        self.batch_pairs.observe(pairs)
        self.run_seconds.observe(seconds)
        self._scores.add(scores)


class _ScoreHistogram(Collector):
    """A histogram that takes a whole batch at once. One `observe` per pair would cost more than the score itself."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_SCORES) + 1, dtype=np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, scores: NDArray[np.float32]) -> None:
        buckets = np.searchsorted(np.asarray(_SCORES), scores, side="left")
        counts = np.bincount(buckets, minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(scores.sum(dtype=np.float64))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        with self._lock:
            totals, score_sum = np.cumsum(self._counts).tolist(), self._sum
        names = [*(str(bound) for bound in _SCORES), "+Inf"]
        family = HistogramMetricFamily("neardup_scorer_score", "Scores of all pairs")
        family.add_metric([], list(zip(names, totals, strict=True)), score_sum)
        yield family
