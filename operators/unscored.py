"""A record that search or scorer cannot take is passed on unscored, hidden from later searches, with a dead letter."""

from __future__ import annotations

from pyflink.common import Row
from pyflink.datastream import OutputTag

from core.dead_letters import PAYLOAD_LIMIT_BYTES, BadRecord, Provenance
from core.errors import RefusedError
from operators.clients import Search
from operators.in_flight_pb2 import InFlight
from operators.outputs import to_dead_letters
from operators.responses import image_of

__all__ = ["hide", "mark_unscored"]


def hide(search: Search, place: int) -> None:
    """Hides the image at a place from later searches.

    Does nothing where the index has no image: it skipped the record (a negative place), or it knew the version.

    Raises:
        ServiceError: The search server did not take it.
    """
    if place < 0:
        return
    try:
        search.hide(place)
    except RefusedError:
        return  # the index has no image at that place


def mark_unscored(one: InFlight, bad: BadRecord, joined_topic: str) -> tuple[OutputTag, Row]:
    """Notes the reason in the record and returns its dead letter: unmodified, unless the record cannot be read.

    Args:
        one: The record; its scores are dropped.
        bad: Why it cannot be scored.
        joined_topic: Where it came from.
    """
    one.unscored = f"{bad.reason}: {bad.detail}"
    one.ClearField("scores")
    image = image_of(one)
    # `joined` has one partition. Kafka's timestamp of the record is not kept; the later half's stands in for it.
    source = Provenance(joined_topic, 0, one.kafka_offset, image.arrived_at_ms if image else 0)
    limit_bytes = None if image else PAYLOAD_LIMIT_BYTES
    return to_dead_letters(image.image_id if image else "", bad, source, one.record, one.traceparent, limit_bytes)
