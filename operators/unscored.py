"""A record that search or scorer cannot take: it goes on unscored, hidden from later images, with a dead letter."""

from __future__ import annotations

from pyflink.common import Row
from pyflink.datastream import OutputTag

from core.dead_letters import BadRecord, Provenance
from core.errors import RefusedError
from operators.clients import Search
from operators.in_flight_pb2 import InFlight
from operators.outputs import to_dead_letters
from operators.responses import image_of

__all__ = ["hide", "mark_unscored"]


def hide(search: Search, one: InFlight) -> None:
    """Takes the image out of later searches; what the index skipped is not in there.

    Raises:
        ServiceError: The search server did not take it.
    """
    if one.answer.place < 0:
        return
    try:
        search.hide(one.answer.place)
    except RefusedError:
        return  # nothing lies at that place


def mark_unscored(one: InFlight, bad: BadRecord, joined_topic: str) -> tuple[OutputTag, Row]:
    """Notes the reason in the record and gives its dead letter, whole.

    Args:
        one: The record; its scores are dropped.
        bad: Why it cannot be scored.
        joined_topic: Where it came from.
    """
    one.unscored = f"{bad.reason}: {bad.detail}"
    one.ClearField("scores")
    image = image_of(one)
    # The order has one partition. Kafka's timestamp of the record does not travel with it: the later half's stands in.
    source = Provenance(joined_topic, 0, one.offset, image.arrived_at_ms if image else 0)
    return to_dead_letters(image.image_id if image else "", bad, source, one.record, limit_bytes=None)
