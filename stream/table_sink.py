"""Rows of (key, value, traceparent) bytes into a Kafka topic, with headers.

PyFlink's `KafkaSink` cannot set headers: Java's `HeaderProvider` has no Python form. The table connector's sink can, in
its metadata column `headers`. It leaves out a header whose value is NULL. No Python operator is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from stream.kafka_access import KafkaAccess
from stream.tables import sql_options

__all__ = ["KafkaTarget", "sink_properties", "write_records"]

SCHEMA_VERSION = "1"
"""Of the joined records and the dead letters. Fields are only added to a version."""

BATCH_BYTES = 262_144
"""The most that one partition gets in one batch."""


@dataclass(frozen=True, slots=True)
class KafkaTarget:
    """A topic, the media type of its records, and settings of the Kafka client that writes them."""

    topic: str
    content_type: str
    properties: Mapping[str, str]


def sink_properties(access: KafkaAccess, max_message_bytes: int) -> dict[str, str]:
    """Settings of a Kafka client that loses nothing and sends within 10 ms."""
    return {
        **access.java_properties(),
        "bootstrap.servers": access.bootstrap,
        "client.id": access.client_id,
        "acks": "all",
        "enable.idempotence": "true",
        "linger.ms": "10",
        # A record of `joined` has 4 kB, and the default of 16 kB holds four. The broker syncs each batch of that topic.
        "batch.size": str(BATCH_BYTES),
        "max.request.size": str(max_message_bytes),
        # A broker that is away for long is waited for; records wait in the producer, then in Flink's buffers.
        "delivery.timeout.ms": str(24 * 3600 * 1000),
        "request.timeout.ms": "10000",
    }


def write_records(tables: StreamTableEnvironment, stream: DataStream, target: KafkaTarget, *, uid: str) -> None:
    """Adds a sink that writes at once and repeats after a failure: its readers ignore what they have seen.

    (Exactly-once would show records only at checkpoints, and leave gaps between offsets.)

    Args:
        tables: The table environment.
        stream: Of `operators.rows.RECORD_TYPE`.
        target: Where they go.
        uid: Names the sink in snapshots.
    """
    options = {
        "connector": "kafka",
        "topic": target.topic,
        "key.format": "raw",
        "key.fields": "key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "sink.delivery-guarantee": "at-least-once",
        # One writer and this partitioner: all records go to partition 0, also if someone adds partitions.
        "sink.parallelism": "1",
        "sink.partitioner": "fixed",
        **{f"properties.{key}": value for key, value in target.properties.items()},
    }
    tables.get_config().set("table.exec.uid.format", f"{uid}-<type>-<transformation>")
    tables.execute_sql(
        f"""
        CREATE TEMPORARY TABLE `{uid}` (
          `key` BYTES,
          `value` BYTES,
          headers MAP<STRING, BYTES> METADATA
        ) WITH ({sql_options(options)})
        """
    )
    tables.create_temporary_view(f"`{uid}-rows`", tables.from_data_stream(stream))
    statements = tables.create_statement_set()
    statements.add_insert_sql(
        f"""
        INSERT INTO `{uid}` SELECT f0, f1, MAP[
          'content-type', ENCODE('{target.content_type}', 'UTF-8'),
          'schema-version', ENCODE('{SCHEMA_VERSION}', 'UTF-8'),
          'traceparent', f2
        ] FROM `{uid}-rows`
        """
    )
    statements.attach_as_datastream()
