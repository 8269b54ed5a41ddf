"""Kafka topics as streams of rows. Only the table connector gives topic, partition, offset and headers in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pyflink.common.typeinfo import TypeInformation, Types
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from operators.rows import EMBEDDING_ROW_TYPE, JOINED_ROW_TYPE, SEQUENCE_KEY, SEQUENCE_KEY_TYPE
from stream.kafka_access import KafkaAccess

__all__ = ["DISCOVERY_S", "WatermarkPolicy", "embedding_stream", "joined_stream", "replay_stream", "sql_options"]

DISCOVERY_S = 15
"""Partitions that are added to an embedding topic are found after so long, and read from their beginning."""


_AT_ONCE = {"properties.fetch.max.wait.ms": "500", "properties.fetch.min.bytes": "1"}
"""Of the topics that we write ourselves: our producers have collected their records already."""


@dataclass(frozen=True, slots=True)
class WatermarkPolicy:
    """How event time follows the records of a partition.

    Attributes:
        out_of_orderness_s: How far a watermark stays behind the newest record.
        idle_s: A partition without records for so long is left out of the watermark.
    """

    out_of_orderness_s: float
    idle_s: float


def embedding_stream(
    tables: StreamTableEnvironment,
    *,
    uid: str,
    topic: str,
    access: KafkaAccess,
    group: str,
    starts: Mapping[int, int],
    watermarks: WatermarkPolicy,
) -> DataStream:
    """Rows (payload, partition, offset, traceparent, arrived) of an embedding topic, with watermarks.

    Event time is Kafka's timestamp and watermarks are kept per partition, so that no half expires because of a backlog.

    Args:
        tables: The table environment.
        uid: Names the source in snapshots. Another job needs another uid, else a snapshot's offsets are used.
        topic: The topic.
        access: How the source reaches Kafka.
        group: Offsets are committed under this name with each checkpoint.
        starts: First offset of each partition.
        watermarks: How event time follows the records.
    """
    idle_ms = int(watermarks.idle_s * 1000)
    return _stream(
        tables,
        uid,
        f"""
        CREATE TEMPORARY TABLE `{uid}` (
          payload BYTES,
          `partition` INT METADATA VIRTUAL,
          `offset` BIGINT METADATA VIRTUAL,
          headers MAP<STRING, BYTES> METADATA VIRTUAL,
          arrived TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
          WATERMARK FOR arrived AS arrived - INTERVAL '{watermarks.out_of_orderness_s:.3f}' SECOND
        ) WITH (
          {_options(topic, access, group, starts)},
          'scan.topic-partition-discovery.interval' = '{DISCOVERY_S} s',
          'scan.watermark.idle-timeout' = '{idle_ms} ms'
        )
        """,
        f"SELECT payload, `partition`, `offset`, headers['traceparent'], arrived FROM `{uid}`",
        EMBEDDING_ROW_TYPE,
    )


def joined_stream(
    tables: StreamTableEnvironment, *, uid: str, topic: str, access: KafkaAccess, group: str, start: int
) -> DataStream:
    """Rows (0, (payload, offset, traceparent)) of `joined` from one offset on: one key for all, so one order.

    Args:
        tables: The table environment.
        uid: Names the source in snapshots. Another start needs another uid, else a snapshot's offset is used.
        topic: The topic, of one partition.
        access: How the source reaches Kafka.
        group: For the broker's lists only; the stores keep the position.
        start: The first offset.
    """
    return _ordered_stream(tables, uid, _options(topic, access, group, {0: start}, _AT_ONCE), 0)


def replay_stream(
    tables: StreamTableEnvironment,
    *,
    uid: str,
    topic: str,
    access: KafkaAccess,
    group: str,
    starts: Mapping[int, int],
    partition: int,
) -> DataStream:
    """Rows (0, (payload, offset, traceparent)) of one partition of `replay`.

    The source reads the others too and leaves them out, because the connector cannot be given a single partition.

    Args:
        tables: The table environment.
        uid: Names the source in snapshots. Another start needs another uid, else a snapshot's offset is used.
        topic: The topic.
        access: How the source reaches Kafka.
        group: For the broker's lists only; storage keeps the position.
        starts: The first offset of each partition.
        partition: The one whose records are wanted.
    """
    return _ordered_stream(tables, uid, _options(topic, access, group, starts, _AT_ONCE), partition)


def _ordered_stream(tables: StreamTableEnvironment, uid: str, options: str, partition: int) -> DataStream:
    return _stream(
        tables,
        uid,
        f"""
        CREATE TEMPORARY TABLE `{uid}` (
          payload BYTES,
          `partition` INT METADATA VIRTUAL,
          `offset` BIGINT METADATA VIRTUAL,
          headers MAP<STRING, BYTES> METADATA VIRTUAL
        ) WITH ({options}, 'scan.topic-partition-discovery.interval' = '0 s')
        """,
        f"SELECT {SEQUENCE_KEY} AS sequence, ROW(payload, `offset`, headers['traceparent']) AS record FROM `{uid}` "
        f"WHERE `partition` = {partition}",
        Types.ROW([SEQUENCE_KEY_TYPE, JOINED_ROW_TYPE]),
    )


def _stream(
    tables: StreamTableEnvironment, uid: str, create: str, select: str, row_type: TypeInformation
) -> DataStream:
    # The option is read when the query is translated, which `to_data_stream` does at once: each source has its own
    # uids.
    tables.get_config().set("table.exec.uid.format", f"{uid}-<type>-<transformation>")
    tables.execute_sql(create)
    stream = tables.to_data_stream(tables.sql_query(select))
    _never_reset(stream)
    # Python operators cannot read the table's own row type.
    stream._j_data_stream.getTransformation().setOutputType(row_type.get_java_type_info())
    return stream


def _never_reset(stream: DataStream) -> None:
    """Makes the source fail at an offset that the log does not have.

    The table connector has no option for it. With offsets given, it always sets `earliest`: the source would skip or
    repeat records, and nobody would know.
    """
    found = 0
    for each in stream._j_data_stream.getTransformation().getTransitivePredecessors():
        if each.getClass().getSimpleName() == "SourceTransformation":
            source = each.getSource()
            properties = source.getClass().getDeclaredField("props")
            properties.setAccessible(True)
            properties.get(source).setProperty("auto.offset.reset", "none")
            found += 1
    if found != 1:
        raise RuntimeError(f"the stream has {found} sources, not one")


def _options(
    topic: str,
    access: KafkaAccess,
    group: str,
    starts: Mapping[int, int],
    others: Mapping[str, str] = MappingProxyType({}),
) -> str:
    offsets = ";".join(f"partition:{partition},offset:{offset}" for partition, offset in sorted(starts.items()))
    options = {
        "connector": "kafka",
        "topic": topic,
        "format": "raw",
        "properties.bootstrap.servers": access.bootstrap,
        "properties.group.id": group,
        "properties.client.id.prefix": access.client_id,
        # What a sender has taken back in an aborted transaction is no notification.
        "properties.isolation.level": "read_committed",
        # Fetch what comes within 20 ms together: a request for each record costs the broker more than the record does.
        "properties.fetch.max.wait.ms": "20",
        "properties.fetch.min.bytes": "65536",
        "scan.startup.mode": "specific-offsets",
        "scan.startup.specific-offsets": offsets,
        **{f"properties.{key}": value for key, value in access.java_properties().items()},
        **others,
    }
    return sql_options(options)


def sql_options(options: Mapping[str, str]) -> str:
    """Options of a table as SQL has them."""
    return ", ".join(f"{_literal(key)} = {_literal(value)}" for key, value in options.items())


def _literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"
