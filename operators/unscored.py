"""A record that search or scorer cannot take goes on unscored, and carries the reason to storage."""

from __future__ import annotations

from core.dead_letters import PAYLOAD_LIMIT_BYTES, BadRecord, Provenance, Reason, dead_letter
from core.notifications import JoinedContent, image_id_of, placed_image
from core.protos.joined_pb2 import JoinedDelete, JoinedReplay
from core.types import DeadLetterRecord
from operators.in_flight_pb2 import InFlight

__all__ = ["dead_letter_of", "mark_unscored", "reason_of"]

_SEPARATOR = ": "


def mark_unscored(one: InFlight, bad: BadRecord) -> None:
    """Notes in the record why it cannot be scored, and drops its scores."""
    one.unscored = reason_of(bad)
    one.ClearField("scores")


def reason_of(bad: BadRecord) -> str:
    """How a record carries what is wrong with it."""
    return f"{bad.reason}{_SEPARATOR}{bad.detail}"


def dead_letter_of(one: InFlight, content: JoinedContent | None, joined_topic: str) -> DeadLetterRecord | None:
    """The dead letter of an unscored record: unmodified, unless the record cannot be read. None for any other.

    Args:
        one: The record.
        content: What it says; None if it cannot be read.
        joined_topic: Where it came from.
    """
    if not one.unscored:
        return None
    reason, _, detail = one.unscored.partition(_SEPARATOR)
    # `joined` has one partition. Kafka's timestamp of the record is not kept; an earlier one stands in for it.
    source = Provenance(joined_topic, 0, one.kafka_offset, _time_of(content))
    limit_bytes = None if content else PAYLOAD_LIMIT_BYTES
    value = dead_letter(BadRecord(Reason(reason), detail), source, one.record, limit_bytes)
    return DeadLetterRecord(image_id_of(content).encode() if content else b"", value, one.traceparent)


def _time_of(content: JoinedContent | None) -> int:
    """When the image arrived, or when a delete or a replay was asked for."""
    if isinstance(content, JoinedDelete | JoinedReplay):
        return content.requested_at_ms
    image = None if content is None else placed_image(content)
    return 0 if image is None else image.arrived_at_ms
