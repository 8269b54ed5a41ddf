"""From a Kafka record to one checked half of an image, or to a dead letter. One function per embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from core.dead_letters import Provenance
from core.notifications import BadRecord, EmbeddingSpec, decode
from core.tracing import traceparent
from operators.metrics import DecodeMetrics
from operators.outputs import to_dead_letters
from operators.pairing import ArrivedHalf, Side
from operators.pairing_codec import encode_half

__all__ = ["NO_TIMESTAMP_MS", "DecodeFunction"]

NO_TIMESTAMP_MS = -(2**63)
"""What Flink gives as the timestamp of an element that has none."""


class DecodeFunction(ProcessFunction):  # type: ignore[misc]
    """Rows of an embedding topic in, rows (image id, half bytes) out, dead letters aside."""

    def __init__(self, side: Side, spec: EmbeddingSpec) -> None:
        """Keeps settings.

        Args:
            side: Which half of an image the topic carries.
            spec: The embedding that it carries.
        """
        self._side = side
        self._spec = spec

    def open(self, runtime_context: RuntimeContext) -> None:
        """Called by Flink at the start of the task."""
        self._metrics = DecodeMetrics(runtime_context)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Sequence[Any]:
        """Decodes one record; a tombstone counts as a record without bytes."""
        payload = bytes(value[0] or b"")
        source = Provenance(value[1], value[2], value[3], _timestamp_ms(ctx))
        trace = traceparent(value[4])
        half = decode(payload, self._spec)
        if isinstance(half, BadRecord):
            self._metrics.bad(half.reason)
            return [to_dead_letters("", half, source, payload, trace)]
        self._metrics.decoded()
        return [Row(half.image_id, encode_half(ArrivedHalf(self._side, half.version, source, payload, trace)))]


def _timestamp_ms(ctx: ProcessFunction.Context) -> int:
    """Kafka's timestamp of the record, 0 where it has none."""
    timestamp_ms = ctx.timestamp()
    return 0 if timestamp_ms is None or timestamp_ms == NO_TIMESTAMP_MS else int(timestamp_ms)
