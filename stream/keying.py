"""Keyed streams from rows that already carry their key.

`DataStream.key_by` puts one more Python operator in front of every keyed one, only to compute the key. Here the
operator (or the table) upstream emits `Row(key, value)` itself, which is what that extra operator would have made.
"""

from __future__ import annotations

from pyflink.common.typeinfo import TypeInformation, Types
from pyflink.datastream import DataStream, KeyedStream
from pyflink.java_gateway import get_gateway

__all__ = ["keyed_by_first"]


def keyed_by_first(stream: DataStream, key_type: TypeInformation, value_type: TypeInformation) -> KeyedStream:
    """Partitions rows of (key, value) by their key; the operator behind sees the value alone.

    Args:
        stream: Of rows with two fields.
        key_type: Of the first field.
        value_type: Of the second field.
    """
    j_selector = get_gateway().jvm.org.apache.flink.streaming.api.utils.KeyByKeySelector()
    j_keyed = stream._j_data_stream.keyBy(j_selector, Types.ROW([key_type]).get_java_type_info())
    return KeyedStream(j_keyed, value_type, stream)
