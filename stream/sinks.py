"""Rows of (key, value) bytes into a Kafka topic."""

from __future__ import annotations

from pyflink.common.serialization import RowFieldExtractorSchema
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import KafkaRecordSerializationSchema, KafkaSink

from stream.kafka_access import KafkaAccess

__all__ = ["kafka_sink"]


def kafka_sink(access: KafkaAccess, topic: str, max_message_bytes: int) -> KafkaSink:
    """A sink that writes at once and repeats after a failure: its readers ignore what they have seen.

    (Exactly-once would show records only at checkpoints, and leave gaps between offsets.)
    """
    schema = (
        KafkaRecordSerializationSchema.builder()
        .set_topic(topic)
        .set_key_serialization_schema(RowFieldExtractorSchema(0))
        .set_value_serialization_schema(RowFieldExtractorSchema(1))
        .build()
    )
    properties = {
        **access.java_properties(),
        "client.id": access.client_id,
        "acks": "all",
        "enable.idempotence": "true",
        "linger.ms": "10",
        "max.request.size": str(max_message_bytes),
        # A broker that is away for long is waited for; records wait in the producer, then in Flink's buffers.
        "delivery.timeout.ms": str(24 * 3600 * 1000),
        "request.timeout.ms": "10000",
    }
    builder = (
        KafkaSink.builder()
        .set_bootstrap_servers(access.bootstrap)
        .set_record_serializer(schema)
        .set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
    )
    for key, value in properties.items():
        builder.set_property(key, value)
    return builder.build()
