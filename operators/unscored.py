"""A record that search or scorer cannot take goes on unscored, and carries the reason to storage."""

from __future__ import annotations

from core.dead_letters import PAYLOAD_LIMIT_BYTES, BadRecord, Provenance, Reason, dead_letter
from core.types import DeadLetterRecord
from operators.in_flight_pb2 import InFlight
from operators.responses import image_of

__all__ = ["dead_letter_of", "mark_unscored"]

_SEPARATOR = ": "


def mark_unscored(one: InFlight, bad: BadRecord) -> None:
    """Notes in the record why it cannot be scored, and drops its scores."""
    one.unscored = f"{bad.reason}{_SEPARATOR}{bad.detail}"
    one.ClearField("scores")


def dead_letter_of(one: InFlight, joined_topic: str) -> DeadLetterRecord | None:
    """The dead letter of an unscored record: unmodified, unless the record cannot be read. None for any other.

    Args:
        one: The record.
        joined_topic: Where it came from.
    """
    if not one.unscored:
        return None
    reason, _, detail = one.unscored.partition(_SEPARATOR)
    image = image_of(one)
    # `joined` has one partition. Kafka's timestamp of the record is not kept; the later half's stands in for it.
    source = Provenance(joined_topic, 0, one.kafka_offset, image.arrived_at_ms if image else 0)
    limit_bytes = None if image else PAYLOAD_LIMIT_BYTES
    value = dead_letter(BadRecord(Reason(reason), detail), source, one.record, limit_bytes)
    return DeadLetterRecord(image.image_id.encode() if image else b"", value, one.traceparent)
