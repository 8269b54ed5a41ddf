"""From the bytes of a record of the order to the entry that the search server gets. Job and rebuild both use it."""

from __future__ import annotations

from crc32c import crc32c

from core.dead_letters import BadRecord
from core.notifications import JoinedContent, placed_image
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedMember, JoinedReplay
from search.serving.search_pb2 import LogEntry, Remove, Replay, Skip

__all__ = ["log_entry", "skip_entry"]


def log_entry(offset: int, payload: bytes, decoded: JoinedContent | BadRecord) -> LogEntry:
    """The entry of a record; an unreadable record is skipped."""
    if isinstance(decoded, BadRecord):
        return skip_entry(offset, payload, decoded, decoded)
    checksum = crc32c(payload)
    match decoded:
        case JoinedDelete():
            return LogEntry(offset=offset, checksum=checksum, remove=_remove(decoded))
        case JoinedReplay():
            return LogEntry(offset=offset, checksum=checksum, replay=_replay(decoded))
        case JoinedMember():
            return LogEntry(offset=offset, checksum=checksum, insert=decoded.image, unsearched=True)
        case JoinedImage():
            return LogEntry(offset=offset, checksum=checksum, insert=decoded)


def skip_entry(offset: int, payload: bytes, decoded: JoinedContent | BadRecord, bad: BadRecord) -> LogEntry:
    """The entry that skips a record, and places its image version if it is a readable image."""
    known = placed_image(decoded) or JoinedImage()
    skip = Skip(image_id=known.image_id, image_version=known.image_version, reason=bad.reason)
    return LogEntry(offset=offset, checksum=crc32c(payload), skip=skip)


def _remove(delete: JoinedDelete) -> Remove:
    version = delete.image_version if delete.HasField("image_version") else None
    return Remove(image_id=delete.image_id, image_version=version, forget=delete.forget)


def _replay(replay: JoinedReplay) -> Replay:
    """A dry run must not change the index, so it comes without the image."""
    with_image = replay.HasField("image") and not replay.dry_run
    return Replay(image_id=replay.image_id, image=replay.image if with_image else None)
