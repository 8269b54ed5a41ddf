"""The metrics that all servers have of their calls: the duration, and the errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram

__all__ = ["CALL_SECONDS", "CallMetrics"]

CALL_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Histogram buckets for durations of about a call, in seconds."""


class CallMetrics:
    """Times the calls of one server and counts those that fail, both by method."""

    def __init__(
        self,
        server: str,
        methods: Sequence[str],
        registry: CollectorRegistry,
        failed_help: str = "Calls that ended with an error",
    ) -> None:
        """Registers the metrics.

        Args:
            server: The server's name, which is part of the metrics' names.
            methods: All methods; each is shown from the start, so that rates begin at zero.
            registry: The metrics of the page.
            failed_help: The help text of the counter of failures.
        """
        self.seconds = Histogram(
            f"neardup_{server}_call_seconds",
            "Duration of a call, by method",
            ["method"],
            buckets=CALL_SECONDS,
            registry=registry,
        )
        self.failed = Counter(
            f"neardup_{server}_failed_calls_total", failed_help, ["method", "error"], registry=registry
        )
        for method in methods:
            self.seconds.labels(method)

    @contextmanager
    def call(self, method: str) -> Iterator[None]:
        """Times a call and counts its error."""
        started = perf_counter()
        try:
            yield
        except Exception as error:  # counts any error and raises it again
            self.failed.labels(method, type(error).__name__).inc()
            raise
        finally:
            self.seconds.labels(method).observe(perf_counter() - started)
