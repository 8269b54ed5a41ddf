"""Streams without the Python operators that PyFlink puts between ours.

`DataStream.key_by` puts one more Python operator in front of every keyed one, only to compute the key. Here the
operator or table upstream emits `Row(key, value)` itself, as that extra operator would.
`get_side_output` adds a Python map that only copies. It is chained to the operator before it, and two Python operators
in one chain deadlock in thread mode.
"""

from __future__ import annotations

from pyflink.common.typeinfo import TypeInformation, Types
from pyflink.datastream import DataStream, KeyedStream, OutputTag
from pyflink.java_gateway import get_gateway

from operators.rows import BYTES_TYPE

__all__ = ["at_once", "batched", "keyed_by_first", "side_output"]


def keyed_by_first(stream: DataStream, key_type: TypeInformation, value_type: TypeInformation) -> KeyedStream:
    """Partitions rows of (key, value) by their key; the next operator gets the value only.

    Args:
        stream: Of rows with two fields.
        key_type: Of the first field.
        value_type: Of the second field.
    """
    j_selector = get_gateway().jvm.KeyByKeySelector()
    j_keyed = stream._j_data_stream.keyBy(j_selector, Types.ROW([key_type]).get_java_type_info())
    return KeyedStream(j_keyed, value_type, stream)


def side_output(stream: DataStream, tag: OutputTag) -> DataStream:
    """What an operator emits under a tag."""
    return DataStream(stream._j_data_stream.getSideOutput(tag.get_java_output_tag()))


def batched(stream: DataStream, delay_ms: int, uid: str) -> DataStream:
    """The records of a source as elements that hold those of some milliseconds (`operators.record_batches`).

    Each record of its own costs a Python operator an entry, and several operators share one GIL.

    Args:
        stream: Of `operators.rows.EMBEDDING_ROW_TYPE`.
        delay_ms: The longest that a record waits for others.
        uid: Names the operator, which keeps nothing.
    """
    operator = get_gateway().jvm.neardup.RecordBatches(delay_ms)
    batches = stream._j_data_stream.transform("batch", BYTES_TYPE.get_java_type_info(), operator)
    return at_once(DataStream(batches.uid(uid)))


def at_once(stream: DataStream) -> DataStream:
    """The same stream, whose elements go to the next operator one by one: they are whole batches, or come seldom.

    Else Flink starts a thread for each output. It wakes up at every buffer timeout, whether there is something to send
    or not.
    """
    stream._j_data_stream.getTransformation().setBufferTimeout(0)
    return stream
