"""Every codec of Kafka for kafka-python.

The client reads lz4, snappy and zstd only with packages of their own. pyarrow has all three, and is here already. For
the Java client, Flink carries lz4 and snappy, and `stream.local.flink_home` adds zstd.
"""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
from kafka import codec
from kafka.record import default_records, legacy_records

__all__ = ["read_all_codecs"]


def read_all_codecs() -> None:
    """Lets consumers of this process read records of every codec. It may be repeated."""
    codec.snappy = SimpleNamespace(decompress=_snappy_block)
    codec.lz4 = SimpleNamespace()
    codec.zstd = codec.zstd or SimpleNamespace()
    for module in (codec, default_records, legacy_records):
        module.lz4_decode = _lz4
        if hasattr(module, "zstd_decode"):
            module.zstd_decode = _zstd


def _lz4(payload: bytes) -> bytes:
    return _stream(payload, "lz4")


def _zstd(payload: bytes) -> bytes:
    return _stream(payload, "zstd")


def _stream(payload: bytes, name: str) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(bytes(payload)), name) as stream:
        return bytes(stream.read())


def _snappy_block(block: bytes) -> bytes:
    """A block of snappy's own format, which begins with the length of its content in groups of seven bits."""
    length = shift = 0
    for byte in block:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return bytes(pa.decompress(bytes(block), decompressed_size=length, codec="snappy", asbytes=True))
