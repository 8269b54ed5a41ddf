"""Rejected records on the real parts: each becomes a dead letter, with its headers, and the order goes on."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer

from core.dead_letters import DeadLetter, Reason
from core.protos.joined_pb2 import JoinedImage, JoinedRecord
from neardup.events_pb2 import FLOAT16
from tests.support.stack import Stack, eventually

pytestmark = pytest.mark.cluster


def test_an_image_that_the_index_refuses_is_its_own_head_and_a_dead_letter(stack: Stack) -> None:
    image = JoinedImage(
        image_id="refused-by-the-index",
        image_version=1,
        search_type=FLOAT16,
        score_type=FLOAT16,
        search_vector=b"\x00\x3c" * 7,  # as only another writer of the order could send it
        score_vector=b"\x00\x3c" * 768,
        arrived_at_ms=1_700_000_000_000,
    )
    record = JoinedRecord(image=image).SerializeToString()
    producer = KafkaProducer(bootstrap_servers=stack.settings.kafka.servers)
    sent = producer.send(stack.signal.topic("joined"), key=b"refused-by-the-index", value=record).get(30)
    producer.close()

    def found() -> list[DeadLetter] | None:
        return [one for one in stack.dead_letters() if one.payload == record] or None

    (dead,) = eventually(found, 60, lambda: "the storage server has published no dead letter")
    assert (dead.reason, dead.source.topic, dead.source.offset) == (
        Reason.REFUSED,
        stack.signal.topic("joined"),
        sent.offset,
    )
    assert stack.heads(["refused-by-the-index"]) == {"refused-by-the-index": "refused-by-the-index"}
    assert stack.problems() == []
