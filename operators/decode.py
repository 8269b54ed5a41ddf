"""From Kafka records to checked halves of images, or to dead letters. One function per embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from core.dead_letters import PAYLOAD_LIMIT_BYTES, Provenance
from core.entrance import KEPT_WHOLE, admit
from core.notifications import BadRecord
from core.tracing import traceparent
from core.vector_limits import NormBand, VectorLimits
from operators.metrics import DecodeMetrics
from operators.outputs import to_dead_letters
from operators.pairing import ArrivedHalf, Side
from operators.pairing_codec import encode_half
from operators.record_batches import SourceRecord, unpack

__all__ = ["DecodeFunction"]


class DecodeFunction(ProcessFunction):  # type: ignore[misc]
    """Batches of records of an embedding topic in, rows (image id, half bytes) out, dead letters aside."""

    def __init__(self, side: Side, topic: str, limits: VectorLimits) -> None:
        """Keeps settings.

        Args:
            side: Which half of an image the topic carries.
            topic: Its name.
            limits: The embedding that it carries, and what its vectors must be like.
        """
        self._side = side
        self._topic = topic
        self._limits = limits

    def open(self, runtime_context: RuntimeContext) -> None:
        """Called by Flink at the start of the task."""
        self._metrics = DecodeMetrics(runtime_context)

    def process_element(self, value: bytes, ctx: ProcessFunction.Context) -> Sequence[Any]:
        """Decodes the records of a batch."""
        bands: list[NormBand] = []
        outputs = [self._decoded(each, bands) for each in unpack(bytes(value))]
        self._metrics.decoded(bands)
        return outputs

    def _decoded(self, each: SourceRecord, bands: list[NormBand]) -> Any:
        """A half, whose band is noted, or a dead letter; a tombstone counts as a record without bytes."""
        payload, source = each.payload, Provenance(self._topic, each.partition, each.offset, each.timestamp_ms)
        trace = traceparent(each.traceparent)
        admitted = admit(payload, self._limits)
        if isinstance(admitted, BadRecord):
            limit_bytes = None if admitted.reason in KEPT_WHOLE else PAYLOAD_LIMIT_BYTES
            truncated = limit_bytes is not None and len(payload) > limit_bytes
            self._metrics.bad(admitted.reason, truncated=truncated)
            return to_dead_letters("", admitted, source, payload, trace, limit_bytes)
        half = admitted.half
        bands.append(admitted.band)
        return Row(half.image_id, encode_half(ArrivedHalf(self._side, half.version, source, payload, trace)))
