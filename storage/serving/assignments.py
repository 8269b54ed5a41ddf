"""The topic `assignments`: one JSON object for each history entry, keyed by image id.

`docs/schemas/assignment.json` describes it. An example:

    {"epoch": 1700000000000, "store_id": "5d1c...", "history_number": 7, "image_id": "...", "head": "...",
     "old_head": null, "cause": "matched", "score": 0.93, "matched": "...", "place": 41, "offset": 41, "version": 1,
     "created_at_ms": 0, "arrived_at_ms": 0, "decided_at_ms": 0, "versions": {"model": "...", "index": "..."},
     "truncated": false, "override": null, "load": null}

Numbers begin again with a store that is new or restored; then `epoch` is higher. So a consumer orders by epoch and
number. Within an epoch, entries come in the order of their history numbers, without a gap. After a restart some may
come again (at least once), so a consumer drops what is not above the last one that it has seen. If the broker lost
messages, later numbers may come before the missing ones; all of them then come again, in order. A consumer that takes
each number only after the one before it misses none.

A first load is one record for all of its numbers, of which it has the last. It names the manifest, whose files have
the images and their heads; `image_id` and `head` are empty, as of the delete of an image that nobody knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.scores import shortest
from core.types import NO_HEAD, Cause, Versions
from storage.records import FirstLoad, HistoryEntry, StoreEpoch

__all__ = ["HEADERS", "Message", "load_message", "message_of"]

HEADERS: Sequence[tuple[str, bytes]] = (("content-type", b"application/json"), ("schema-version", b"1"))
"""The Kafka headers of every record. The version is raised only if a field is removed or changes its meaning."""


@dataclass(frozen=True, slots=True)
class Message:
    """One record for Kafka."""

    number: int
    """The number of the history entry; of a dead letter, the offset of its record."""
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]] = HEADERS

    @property
    def size(self) -> int:
        """The bytes of key and value."""
        return len(self.key) + len(self.value)


def message_of(entry: HistoryEntry, epoch: StoreEpoch) -> Message:
    """The record of a history entry; the same entry of the same epoch gives the same bytes."""
    return _message(entry, epoch, None)


def load_message(load: FirstLoad, epoch: StoreEpoch) -> Message:
    """The record of a first load, from the first number of the epoch on; the same epoch gives the same bytes."""
    entry = HistoryEntry(
        number=load.last_number,
        image_id=NO_HEAD,
        old_head=None,
        new_head=NO_HEAD,
        cause=Cause.BOOTSTRAPPED,
        score=None,
        matched=None,
        place=load.rows - 1,
        offset=load.rows - 1,
        version=0,
        decided_at_ms=load.started_ms,
        created_at_ms=0,
        arrived_at_ms=load.started_ms,
        versions=Versions(),
    )
    told: dict[str, str | int] = {
        "folder": load.folder,
        "manifest": load.manifest,
        "manifest_id": load.manifest_id,
        "first_number": epoch.first,
        "rows": load.rows,
        "images": load.images,
        "clusters": load.clusters,
    }
    return _message(entry, epoch, told)


def _message(entry: HistoryEntry, epoch: StoreEpoch, load: Mapping[str, str | int] | None) -> Message:
    content = {
        "epoch": epoch.created_ms,
        "store_id": epoch.store_id,
        "history_number": entry.number,
        "image_id": entry.image_id,
        "head": entry.new_head,
        "old_head": entry.old_head,
        "cause": entry.cause.value,
        "score": None if entry.score is None else shortest(entry.score),
        "matched": entry.matched,
        "place": entry.place,
        "offset": entry.offset,
        "version": entry.version,
        "created_at_ms": entry.created_at_ms,
        "arrived_at_ms": entry.arrived_at_ms,
        "decided_at_ms": entry.decided_at_ms,
        "versions": {"model": entry.versions.model, "index": entry.versions.index},
        "truncated": entry.truncated,
        "override": entry.reference or None,
        "load": load,
    }
    value = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Message(entry.number, entry.image_id.encode(), value)
