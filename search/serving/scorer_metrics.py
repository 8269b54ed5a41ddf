"""Every metric of the scorer: names, labels and buckets, once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

__all__ = ["ScorerMetrics"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BATCH = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_SCORES = (0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)


class ScorerMetrics:
    """What the scorer counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers all metrics."""
        self.seconds = Histogram(
            "neardup_scorer_call_seconds",
            "Duration of a call, by method",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.failed = Counter(
            "neardup_scorer_failed_calls_total",
            "Calls that ended with an error",
            ["method", "error"],
            registry=registry,
        )
        self.pairs = Counter("neardup_scorer_pairs_total", "Pairs that were scored", registry=registry)
        self.batch_pairs = Histogram(
            "neardup_scorer_batch_pairs", "Pairs of one run of the model", buckets=_BATCH, registry=registry
        )
        self.queue_seconds = Histogram(
            "neardup_scorer_queue_seconds",
            "From a request's arrival to the first batch that takes pairs of it",
            buckets=_SECONDS,
            registry=registry,
        )
        self.run_seconds = Histogram(
            "neardup_scorer_run_seconds", "Duration of one run of the model", buckets=_SECONDS, registry=registry
        )
        self.rejected = Counter(
            "neardup_scorer_rejected_requests_total", "Requests turned away by the full queue", registry=registry
        )
        self.expired = Counter(
            "neardup_scorer_expired_requests_total",
            "Requests that left the queue unscored: deadline passed, caller gone, or another part of them failed",
            registry=registry,
        )
        self.queued = Gauge("neardup_scorer_queued_pairs", "Pairs that wait", registry=registry)
        self.model = Gauge(
            "neardup_scorer_model_info", "1 for the version that is served", ["version"], registry=registry
        )
        self._scores = _ScoreHistogram()
        registry.register(self._scores)
        ProcessCollector(registry=registry)
        for method in ("Score", "Describe"):
            self.seconds.labels(method)

    @contextmanager
    def call(self, method: str) -> Iterator[None]:
        """Times a call and counts its error."""
        started = perf_counter()
        try:
            yield
        except Exception as error:
            self.failed.labels(method, type(error).__name__).inc()
            raise
        finally:
            self.seconds.labels(method).observe(perf_counter() - started)

    def batch(self, pairs: int, seconds: float, scores: NDArray[np.float32]) -> None:
        """Counts a run of the model."""
        self.pairs.inc(pairs)
        self.batch_pairs.observe(pairs)
        self.run_seconds.observe(seconds)
        self._scores.add(scores)


class _ScoreHistogram(Collector):
    """A histogram that takes a whole batch at once: one `observe` per pair would cost more than its score."""

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
        family = HistogramMetricFamily("neardup_scorer_score", "Scores that were given")
        family.add_metric([], list(zip(names, totals, strict=True)), score_sum)
        yield family
