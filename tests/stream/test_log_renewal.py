"""Renewing the log of the order: what it refuses, and that a kill at any moment is mended by a second call."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import cast

import pytest

from core.errors import MismatchError, UnavailableError
from core.log_epochs import renewed
from core.types import LogPosition
from search.serving import search_pb2
from search.serving.client import SearchClient
from storage.serving import storage_pb2
from storage.serving.client import StorageClient
from stream.broker import Broker, LogEnds
from stream.log_renewal import next_base, renew_log
from stream.renewal_mark import RenewalMark
from stream.snapshots import SnapshotFolders
from stream.start_plan import Log

ARRIVED_MS = 1_700_000_000_000
OLD = LogPosition("old", 41, 7)
TOLD = LogPosition("new", 41, 7, base=42)


class Server:
    """Search or storage: a position, and a write that may fail before or after its effect."""

    def __init__(self, position: LogPosition) -> None:
        self.position = position
        self.fails = ""

    def renew(self, log_id: str, base: int) -> int:
        if self.fails == "before":
            raise UnavailableError("killed")
        self.position = renewed(self.position, log_id, base)
        if self.fails == "after":
            raise UnavailableError("killed")
        return self.position.offset


class Search(Server):
    def describe(self) -> search_pb2.DescribeResponse:
        at = self.position
        return search_pb2.DescribeResponse(log_id=at.log_id, offset=at.offset, checksum=at.checksum, base=at.base)


class Storage(Server):
    def describe(self) -> storage_pb2.DescribeResponse:
        at = self.position
        return storage_pb2.DescribeResponse(log_id=at.log_id, offset=at.offset, checksum=at.checksum, base=at.base)

    def earliest_arrival(self, images: int) -> int:
        return ARRIVED_MS


class Kafka:
    def __init__(self, topic_id: str = "new", partitions: int = 1) -> None:
        self._topic_id = topic_id
        self._partitions = partitions

    def topic_id(self, topic: str) -> str:
        return self._topic_id

    def ends(self, topic: str) -> dict[int, LogEnds]:
        return {part: LogEnds(0, 0) for part in range(self._partitions)}


class Parts:
    """A stopped job with a savepoint, and the parts that a renewal asks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.snapshots = SnapshotFolders(root)
        self.search, self.storage, self.kafka = Search(OLD), Storage(OLD), Kafka()
        savepoint = self.snapshots.savepoints / "savepoint-1"
        savepoint.mkdir(parents=True)
        (savepoint / "_metadata").write_bytes(struct.pack(">iiq", 0x4960672D, 4, 9) + b"state")
        assert self.snapshots.newest() == savepoint

    def renew(self, dry_run: bool = False) -> int:
        return renew_log(
            "joined",
            cast(Broker, self.kafka),
            cast(SearchClient, self.search),
            cast(StorageClient, self.storage),
            self.snapshots,
            dry_run,
        ).base

    @property
    def mark(self) -> RenewalMark | None:
        return RenewalMark.settle(self.root, None)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


@pytest.mark.parametrize(
    ("index", "storage", "first", "message"),
    [
        (LogPosition("old", 44), OLD, 0, "index stands at position 44, storage stands at position 41: .*--no-catch-up"),
        (OLD, LogPosition("old", 44), 0, "storage stands at position 44"),
        (LogPosition(), OLD, 0, "index stands at position -1"),
        (LogPosition(), LogPosition(), 0, "nothing was applied yet"),
        (TOLD, TOLD, 0, "both stores follow joined with the id new already"),
        (LogPosition("new", 60, 1, 42), LogPosition("new", 60, 1, 42), 0, "already"),
        (OLD, OLD, 5, "joined begins at offset 5"),
    ],
)
def test_what_is_refused(index: LogPosition, storage: LogPosition, first: int, message: str) -> None:
    with pytest.raises(MismatchError, match=message):
        next_base(Log("joined", "new", first, 9), {"the index": index, "storage": storage})


def test_both_stores_go_on_one_after_the_last_position(parts: Parts) -> None:
    assert parts.renew() == 42
    assert parts.search.position == parts.storage.position == TOLD
    assert parts.mark == RenewalMark(ARRIVED_MS)
    assert parts.snapshots.newest() is None


def test_a_dry_run_writes_nothing(parts: Parts) -> None:
    assert parts.renew(dry_run=True) == 42
    assert parts.search.position == parts.storage.position == OLD
    assert parts.mark is None
    assert parts.snapshots.newest() is not None


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("victim", ["storage", "search"])
@pytest.mark.parametrize("topic_id", ["new", "newer"])
def test_a_kill_between_two_writes_is_mended_by_a_second_call(
    parts: Parts, victim: str, when: str, topic_id: str
) -> None:
    server: Server = getattr(parts, victim)
    server.fails = when
    with pytest.raises(UnavailableError):
        parts.renew()
    assert parts.mark is not None
    server.fails = ""
    parts.kafka = Kafka(topic_id)  # the topic may have been created once more meanwhile
    if parts.search.position == parts.storage.position == TOLD and topic_id == "new":
        with pytest.raises(MismatchError, match="already"):
            parts.renew()
    else:
        assert parts.renew() == 42
    assert parts.search.position == parts.storage.position == LogPosition(topic_id, 41, 7, base=42)


def test_a_topic_of_several_partitions_is_refused(parts: Parts) -> None:
    parts.kafka = Kafka(partitions=2)
    with pytest.raises(MismatchError, match="2 partitions"):
        parts.renew()
    assert parts.storage.position == OLD


def test_a_mark_that_was_damaged_is_written_anew_and_everything_is_read_again(parts: Parts) -> None:
    assert parts.renew() == 42
    savepoint = parts.snapshots.savepoints / "savepoint-2"
    savepoint.mkdir()
    (savepoint / "_metadata").write_bytes(struct.pack(">iiq", 0x4960672D, 4, 9) + b"state")
    (parts.root / "renewed.json").write_bytes(bytes(93))
    assert parts.renew(dry_run=True) == 42
    assert RenewalMark.is_damaged(parts.root)
    assert parts.renew() == 42
    assert parts.mark == RenewalMark(0)
    # What the join remembers since the renewal is no harm.
    assert parts.snapshots.newest() == savepoint
    with pytest.raises(MismatchError, match="nothing to renew"):
        parts.renew()
