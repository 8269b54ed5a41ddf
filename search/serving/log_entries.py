"""From the bytes of a record of the order to what the search server is sent for it, by the job as by a rebuild."""

from __future__ import annotations

from crc32c import crc32c

from core.dead_letters import BadRecord
from core.protos.joined_pb2 import JoinedImage
from search.serving.search_pb2 import LogEntry, Skip

__all__ = ["log_entry", "skip_entry"]


def log_entry(offset: int, payload: bytes, decoded: JoinedImage | BadRecord) -> LogEntry:
    """The entry of a record; one that cannot be read is passed over."""
    if isinstance(decoded, BadRecord):
        return skip_entry(offset, payload, decoded, decoded)
    return LogEntry(offset=offset, checksum=crc32c(payload), insert=decoded)


def skip_entry(offset: int, payload: bytes, decoded: JoinedImage | BadRecord, bad: BadRecord) -> LogEntry:
    """The entry by which the index passes over a record, and places its image version where that can be told."""
    known = JoinedImage() if isinstance(decoded, BadRecord) else decoded
    skip = Skip(image_id=known.image_id, image_version=known.image_version, reason=bad.reason)
    return LogEntry(offset=offset, checksum=crc32c(payload), skip=skip)
