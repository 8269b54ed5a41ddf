"""From a lost or moved topic `joined` to the one that is there now: both stores are told, the next job reads back.

In this order, the job's snapshots are given up, the mark for the next job is written, storage is told, the index is.
A kill between them is mended by a second call: it finds the stores level, tells the one that was not told, and gives
the other the same epoch again. A mark that was damaged since is written anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import MismatchError
from core.types import LogPosition
from search.serving.client import SearchClient
from storage.serving.client import StorageClient
from stream.broker import Broker
from stream.renewal_mark import RenewalMark
from stream.snapshots import SnapshotFolders
from stream.start_plan import Log, only_partition

__all__ = ["READ_BACK_IMAGES", "LogRenewal", "next_base", "renew_log"]

READ_BACK_IMAGES = 10_000
"""What arrived since the earliest of so many images, those applied last, is read again. While one partition is behind,
images are joined in another order than they arrive in."""


@dataclass(frozen=True, slots=True)
class LogRenewal:
    """What a renewal does."""

    topic: str
    log_id: str
    """Kafka's id of the topic that the stores go on with."""
    base: int
    """The position of its offset 0: one after the last position applied."""
    read_again_ms: int
    """The embedding topics are read again from one join timeout before this time, in ms since the epoch; 0: whole."""


def next_base(log: Log, stores: Mapping[str, LogPosition]) -> int:
    """The base of the next log epoch.

    Args:
        log: The topic that is there now, as if its base were 0.
        stores: Position of each store, by a name for messages.

    Raises:
        MismatchError: The stores are not level, have applied nothing, or follow the topic already; or the topic has
            lost its first records.
    """
    offsets = {position.offset for position in stores.values()}
    if len(offsets) > 1:
        places = ", ".join(f"{name} stands at position {position.offset}" for name, position in stores.items())
        raise MismatchError(
            f"{places}: bring the index level with storage first, with "
            "`neardup index build --from storage --no-catch-up`"
        )
    if not any(position.log_id for position in stores.values()):
        raise MismatchError(f"nothing was applied yet: the job starts on any topic {log.topic}, without a renewal")
    if all(position.log_id == log.topic_id for position in stores.values()):
        raise MismatchError(f"both stores follow {log.topic} with the id {log.topic_id} already: nothing to renew")
    if log.first > 0:
        raise MismatchError(
            f"{log.topic} begins at offset {log.first}: records of it are gone. Delete it, run `neardup topics create`,"
            " then renew"
        )
    return offsets.pop() + 1


def renew_log(
    topic: str,
    broker: Broker,
    search: SearchClient,
    storage: StorageClient,
    snapshots: SnapshotFolders,
    dry_run: bool = False,
) -> LogRenewal:
    """Makes both stores go on with the topic that is there now, and leaves a mark for the next job.

    Args:
        topic: The name of the order's topic.
        broker: Where it lies.
        search: A client with the rights of the stream.
        storage: A client.
        snapshots: Those of the job; the next job does not use them.
        dry_run: Only check and tell.

    Raises:
        MismatchError: See `next_base`.
        UnavailableError: A part does not answer. What was told is told; call again.
    """
    topic_id, ends = broker.topic_id(topic), only_partition(topic, broker.ends(topic))
    index, store = search.describe(), storage.describe()
    stores = {
        "the index": LogPosition(index.log_id, index.offset, index.checksum, index.base),
        "storage": LogPosition(store.log_id, store.offset, store.checksum, store.base),
    }
    if RenewalMark.is_damaged(snapshots.root) and all(position.log_id == topic_id for position in stores.values()):
        # The mark alone had the time, so everything is read again: repeats are ignored.
        renewal = LogRenewal(topic, topic_id, store.base, 0)
        if not dry_run:
            RenewalMark(renewal.read_again_ms).write(snapshots.root)
        return renewal
    base = next_base(Log(topic, topic_id, ends.first, ends.end), stores)
    renewal = LogRenewal(topic, topic_id, base, storage.earliest_arrival(READ_BACK_IMAGES))
    if not dry_run:
        snapshots.reject_all()
        RenewalMark(renewal.read_again_ms).write(snapshots.root)
        storage.renew(topic_id, base)
        search.renew(topic_id, base)
    return renewal
