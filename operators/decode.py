"""From a Kafka record to one checked half of an image, or to a dead letter. One function per embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from core.notifications import BadRecord, EmbeddingSpec, decode
from operators.metrics import DecodeMetrics
from operators.outputs import to_dead_letters
from operators.pairing import ArrivedHalf, Side
from operators.rows import kafka_record

__all__ = ["DecodeFunction"]


class DecodeFunction(ProcessFunction):  # type: ignore[misc]
    """Rows of an embedding topic in, rows (image id, `ArrivedHalf`) out, dead letters aside."""

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
        """Decodes one record."""
        read = kafka_record(value, ctx.timestamp())
        half = decode(read.payload, self._spec)
        if isinstance(half, BadRecord):
            self._metrics.bad(half.reason)
            return [to_dead_letters("", half, read.source, read.payload)]
        self._metrics.decoded()
        return [Row(half.image_id, ArrivedHalf(self._side, half.version, read.source, read.payload))]
