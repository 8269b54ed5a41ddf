"""Kafka topics as streams of rows: the table connector gives topic, partition and offset, which the others do not."""

from __future__ import annotations

from collections.abc import Mapping

from pyflink.common.typeinfo import TypeInformation, Types
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from operators.rows import JOINED_ROW_TYPE, SEQUENCE_KEY, SEQUENCE_KEY_TYPE
from stream.kafka_access import KafkaAccess

__all__ = ["embedding_stream", "joined_stream"]


def embedding_stream(
    tables: StreamTableEnvironment,
    *,
    uid: str,
    topic: str,
    access: KafkaAccess,
    group: str,
    starts: Mapping[int, int],
    out_of_orderness_s: float,
    idle_s: float,
) -> DataStream:
    """Rows (payload, topic, partition, offset, arrived) of an embedding topic, with event times and watermarks.

    Event time is Kafka's timestamp and watermarks are kept per partition, so that a backlog ages nothing.

    Args:
        tables: The table environment.
        uid: Names the source in snapshots; keep it, or the snapshot's offsets are lost.
        topic: The topic.
        access: How the source reaches Kafka.
        group: Offsets are committed under this name with each checkpoint.
        starts: First offset of each partition, for a job without a snapshot.
        out_of_orderness_s: How far a watermark stays behind the newest record.
        idle_s: A partition without records for so long is left out of the watermark.
    """
    return _stream(
        tables,
        uid,
        f"""
        CREATE TEMPORARY TABLE `{uid}` (
          payload BYTES,
          topic STRING METADATA VIRTUAL,
          `partition` INT METADATA VIRTUAL,
          `offset` BIGINT METADATA VIRTUAL,
          arrived TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
          WATERMARK FOR arrived AS arrived - INTERVAL '{out_of_orderness_s:.3f}' SECOND
        ) WITH ({_options(topic, access, group, starts)}, 'scan.watermark.idle-timeout' = '{int(idle_s * 1000)} ms')
        """,
        f"SELECT payload, topic, `partition`, `offset`, arrived FROM `{uid}`",
        Types.ROW([*JOINED_ROW_TYPE.get_field_types(), Types.INSTANT()]),
    )


def joined_stream(
    tables: StreamTableEnvironment, *, uid: str, topic: str, access: KafkaAccess, group: str, start: int
) -> DataStream:
    """Rows (0, (payload, topic, partition, offset)) of `joined` from one offset on: one key for all, so one order.

    Args:
        tables: The table environment.
        uid: Names the source in snapshots; must differ for another start, or the snapshot's offset would win.
        topic: The topic, of one partition.
        access: How the source reaches Kafka.
        group: For the broker's lists only; the stores hold the truth.
        start: The first offset.
    """
    return _stream(
        tables,
        uid,
        f"""
        CREATE TEMPORARY TABLE `{uid}` (
          payload BYTES,
          topic STRING METADATA VIRTUAL,
          `partition` INT METADATA VIRTUAL,
          `offset` BIGINT METADATA VIRTUAL
        ) WITH ({_options(topic, access, group, {0: start})})
        """,
        f"SELECT {SEQUENCE_KEY} AS sequence, ROW(payload, topic, `partition`, `offset`) AS record FROM `{uid}`",
        Types.ROW([SEQUENCE_KEY_TYPE, JOINED_ROW_TYPE]),
    )


def _stream(
    tables: StreamTableEnvironment, uid: str, create: str, select: str, row_type: TypeInformation
) -> DataStream:
    # Read when the query is translated, which `to_data_stream` does at once: each source gets its own names.
    tables.get_config().set("table.exec.uid.format", f"{uid}-<type>-<transformation>")
    tables.execute_sql(create)
    stream = tables.to_data_stream(tables.sql_query(select))
    # The table's own row type is one that Python operators cannot read.
    stream._j_data_stream.getTransformation().setOutputType(row_type.get_java_type_info())
    return stream


def _options(topic: str, access: KafkaAccess, group: str, starts: Mapping[int, int]) -> str:
    offsets = ";".join(f"partition:{partition},offset:{offset}" for partition, offset in sorted(starts.items()))
    options = {
        "connector": "kafka",
        "topic": topic,
        "format": "raw",
        "properties.bootstrap.servers": access.bootstrap,
        "properties.group.id": group,
        "properties.client.id.prefix": access.client_id,
        # Records that come within 20 ms come together: a request for each record costs the broker more than the record.
        "properties.fetch.max.wait.ms": "20",
        "properties.fetch.min.bytes": "65536",
        "scan.startup.mode": "specific-offsets",
        "scan.startup.specific-offsets": offsets,
        **{f"properties.{key}": value for key, value in access.java_properties().items()},
    }
    return ", ".join(f"'{key}' = {_literal(value)}" for key, value in options.items())


def _literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"
