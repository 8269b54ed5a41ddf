"""What a step needs to trace records: who is traced, what every trace says, and the output for the topic `debug`.

A trace that cannot be made is logged. Verdicts never wait for one, and never fail with one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pyflink.common import Row
from pyflink.datastream import OutputTag

from core.trace_policy import TracePolicy
from core.traces import Trace, trace_json
from operators.in_flight_pb2 import InFlight
from operators.outputs import TRACES
from operators.rows import record
from operators.tracing import TraceStamp, step_trace

__all__ = ["Tracer", "Tracing"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tracing:
    """Settings of traces."""

    policy: TracePolicy = field(default_factory=TracePolicy)
    stamp: TraceStamp = field(default_factory=TraceStamp)


def _uncounted(reason: str, size: int) -> None: ...


class Tracer:
    """The traces of one step, as outputs."""

    def __init__(self, tracing: Tracing | None = None, counted: Callable[[str, int], None] = _uncounted) -> None:
        """Takes the settings.

        Args:
            tracing: Who is traced.
            counted: Told the reason and the bytes of each trace.
        """
        self._tracing = tracing or Tracing()
        self._counted = counted

    @property
    def policy(self) -> TracePolicy:
        """Who is traced."""
        return self._tracing.policy

    @property
    def stamp(self) -> TraceStamp:
        """What every trace says."""
        return self._tracing.stamp

    def output(self, trace: Trace, traceparent: bytes) -> list[tuple[OutputTag, Row]]:
        """A trace for the topic `debug`, under the image's id; none, and a line in the log, if it cannot be written."""
        try:
            value = trace_json(trace)
            self._counted(trace.reason, len(value))
            return [(TRACES, record(trace.image_id.encode(), value, traceparent))]
        except Exception:
            log.exception("the record at position %d gets no trace", trace.position)
            return []

    def watched(self, step: Literal["search", "score"], one: InFlight) -> list[tuple[OutputTag, Row]]:
        """The output of a watched replay that leaves the step now; none for other records."""
        try:
            trace = step_trace(step, one, self.stamp)
        except Exception:
            log.exception("the record at position %d gets no trace", one.offset)
            return []
        return [] if trace is None else self.output(trace, one.traceparent)
