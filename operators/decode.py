"""From a Kafka record to one checked half of an image, or to a dead letter. One function per embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from core.dead_letters import PAYLOAD_LIMIT_BYTES, Provenance
from core.entrance import KEPT_WHOLE, admit
from core.notifications import BadRecord
from core.tracing import traceparent
from core.vector_limits import VectorLimits
from operators.metrics import DecodeMetrics
from operators.outputs import to_dead_letters
from operators.pairing import ArrivedHalf, Side
from operators.pairing_codec import encode_half

__all__ = ["NO_TIMESTAMP_MS", "DecodeFunction"]

NO_TIMESTAMP_MS = -(2**63)
"""What Flink gives as the timestamp of an element that has none."""


class DecodeFunction(ProcessFunction):  # type: ignore[misc]
    """Rows of an embedding topic in, rows (image id, half bytes) out, dead letters aside."""

    def __init__(self, side: Side, limits: VectorLimits) -> None:
        """Keeps settings.

        Args:
            side: Which half of an image the topic carries.
            limits: The embedding that it carries, and what its vectors must be like.
        """
        self._side = side
        self._limits = limits

    def open(self, runtime_context: RuntimeContext) -> None:
        """Called by Flink at the start of the task."""
        self._metrics = DecodeMetrics(runtime_context)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Sequence[Any]:
        """Decodes one record; a tombstone counts as a record without bytes."""
        payload = bytes(value[0] or b"")
        source = Provenance(value[1], value[2], value[3], _timestamp_ms(ctx))
        trace = traceparent(value[4])
        admitted = admit(payload, self._limits)
        if isinstance(admitted, BadRecord):
            limit_bytes = None if admitted.reason in KEPT_WHOLE else PAYLOAD_LIMIT_BYTES
            truncated = limit_bytes is not None and len(payload) > limit_bytes
            self._metrics.bad(admitted.reason, truncated=truncated)
            return [to_dead_letters("", admitted, source, payload, trace, limit_bytes)]
        half = admitted.half
        self._metrics.decoded(admitted.band)
        return [Row(half.image_id, encode_half(ArrivedHalf(self._side, half.version, source, payload, trace)))]


def _timestamp_ms(ctx: ProcessFunction.Context) -> int:
    """Kafka's timestamp of the record, 0 where it has none."""
    timestamp_ms = ctx.timestamp()
    return 0 if timestamp_ms is None or timestamp_ms == NO_TIMESTAMP_MS else int(timestamp_ms)
