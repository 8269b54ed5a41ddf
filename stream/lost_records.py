"""Tells of records that Kafka deleted or damaged before the job read them, once a person has accepted the loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from kafka.errors import KafkaError

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.errors import UnavailableError
from stream.broker import producer
from stream.kafka_access import KafkaAccess
from stream.read_marks import Loss

__all__ = ["lost_letter", "send_lost_letters"]

log = logging.getLogger(__name__)

_ACKNOWLEDGE_S = 30.0


def lost_letter(loss: Loss, now_ms: int) -> bytes:
    """The dead letter of a loss. It has no payload: there is nothing to replay."""
    detail = (
        f"{loss.records} records, offsets {loss.first} to {loss.end - 1}, were deleted or damaged before they were "
        "read; the loss was accepted"
    )
    return dead_letter(BadRecord(Reason.LOST, detail), Provenance(loss.topic, loss.partition, loss.first, now_ms), None)


def send_lost_letters(access: KafkaAccess, topic: str, losses: Sequence[Loss], max_message_bytes: int) -> None:
    """Sends a dead letter for each loss, and logs it. They are acknowledged on return.

    Raises:
        UnavailableError: Kafka did not take them all.
    """
    sender = producer(access, max_message_bytes)
    try:
        sent = [sender.send(topic, value=lost_letter(loss, int(time.time() * 1000))) for loss in losses]
        sender.flush(_ACKNOWLEDGE_S)
        for each in sent:
            each.get(timeout=_ACKNOWLEDGE_S)
    except KafkaError as error:
        raise UnavailableError(f"Kafka at {access.bootstrap}: {error or type(error).__name__}") from error
    finally:
        sender.close(timeout=1)
    for loss in losses:
        log.warning(
            "accepted: %d records of %s partition %d are lost, offsets %d to %d",
            loss.records,
            loss.topic,
            loss.partition,
            loss.first,
            loss.end - 1,
        )
