"""Headers of the records on the job's way: what they are, and the trace context of the notification."""

from __future__ import annotations

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from stream.publish import notification
from tests.support.stack import Stack, eventually, sample_rows

pytestmark = pytest.mark.cluster

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def headers(stack: Stack, topic: str, key: bytes) -> list[dict[str, bytes]]:
    """Of every record of a one-partition topic with this key."""
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(bootstrap_servers=stack.settings.kafka.servers, enable_auto_commit=False)
    found = []
    try:
        end = consumer.end_offsets([partition])[partition]
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        while consumer.position(partition) < end:
            records = consumer.poll(timeout_ms=1_000).get(partition, [])
            found += [dict(record.headers) for record in records if record.key == key]
    finally:
        consumer.close()
    return found


def test_joined_records_and_dead_letters_have_headers(stack: Stack) -> None:
    row, signal = sample_rows(1, skip=900)[0], stack.signal
    key = row.image_id.encode()
    producer = KafkaProducer(bootstrap_servers=stack.settings.kafka.servers)
    trace = [("traceparent", TRACE)]
    for side, embedding, vector in (
        ("search", signal.search_embedding, row.search),
        ("score", signal.score_embedding, row.score),
    ):
        producer.send(signal.topic(side), key=key, value=notification(row, embedding, vector), headers=trace)
    # The stack is shared: this is one of the rejected records that test_whole_way expects, once more.
    producer.send(signal.topic("search"), key=key, value=b"\xff\xfe no protobuf", headers=trace)
    producer.close()
    stack.await_heads([row.image_id])
    expected = {"content-type": b"application/x-protobuf", "schema-version": b"1", "traceparent": TRACE}
    assert headers(stack, signal.topic("joined"), key) == [expected]
    dead = {"content-type": b"application/json", "schema-version": b"1", "traceparent": TRACE}
    topic = signal.topic("dead_letter")
    eventually(lambda: dead in headers(stack, topic, b"") or None, 30, lambda: f"only {headers(stack, topic, b'')}")
