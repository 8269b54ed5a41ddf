"""From the bytes of a record of the order to the entry that the search server gets. Job and rebuild both use it."""

from __future__ import annotations

from crc32c import crc32c

from core.dead_letters import BadRecord
from core.protos.joined_pb2 import JoinedImage
from search.serving.search_pb2 import LogEntry, Skip

__all__ = ["log_entry", "skip_entry"]


def log_entry(offset: int, payload: bytes, decoded: JoinedImage | BadRecord) -> LogEntry:
    """The entry of a record; an unreadable record is skipped."""
    if isinstance(decoded, BadRecord):
        return skip_entry(offset, payload, decoded, decoded)
    return LogEntry(offset=offset, checksum=crc32c(payload), insert=decoded)


def skip_entry(offset: int, payload: bytes, decoded: JoinedImage | BadRecord, bad: BadRecord) -> LogEntry:
    """The entry that skips a record, and places its image version if the record could be read."""
    known = JoinedImage() if isinstance(decoded, BadRecord) else decoded
    skip = Skip(image_id=known.image_id, image_version=known.image_version, reason=bad.reason)
    return LogEntry(offset=offset, checksum=crc32c(payload), skip=skip)
