"""The lag of a job: what it compares, and when it connects to Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from core.errors import UnavailableError
from core.replay_requests import ReplayRequest, encode_request
from core.types import ImageId
from storage.serving.client import StorageClient
from storage.serving.storage_pb2 import AppliedRequest
from stream.broker import Broker, LogEnds
from stream.job_lag import LOOKED_AT, JobLag, LagMeter
from tests.support.stack import stack_settings


class Kafka:
    """One connection: two partitions of embeddings, ten records of `joined`."""

    def __init__(self) -> None:
        self.down = False
        self.closed = False
        self.asked: list[tuple[str, int, int]] = []
        self.markers_only = False
        self.replays: dict[int, list[bytes]] = {0: [], 1: []}
        self.looked_at = 0

    def topic_id(self, topic: str) -> str:
        assert topic == "neardup.photos.replay"
        return "replay-2"

    def record(self, topic: str, offset: int, partition: int) -> bytes:
        assert topic.endswith("replay")
        self.looked_at += 1
        return self.replays[partition][offset]

    def unread(self, topic: str, partition: int, offset: int) -> int:
        self.asked.append((topic, partition, offset))
        return 0 if self.markers_only else self.ends(topic)[partition].end - offset

    def ends(self, topic: str) -> dict[int, LogEnds]:
        if self.down:
            raise UnavailableError("no answer")
        if topic.endswith("joined"):
            return {0: LogEnds(0, 10)}
        if topic.endswith("replay"):
            return {lane: LogEnds(0, len(records)) for lane, records in self.replays.items()}
        return {0: LogEnds(5, 20), 1: LogEnds(2, 8)}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        assert group == "neardup-photos"
        return {0: 17}

    def close(self) -> None:
        self.closed = True


class Storage:
    """A storage server that has applied offset 6."""

    offset = 6
    base = 0
    closed = False
    requests = (AppliedRequest(topic_id="replay-1", partition=0, offset=99),)

    def describe(self) -> Any:
        return self

    def close(self) -> None:
        self.closed = True


class Connections:
    """Opens connections, and remembers them."""

    def __init__(self) -> None:
        self.made: list[Kafka] = []

    def __call__(self) -> Broker:
        self.made.append(Kafka())
        return cast(Broker, self.made[-1])


@pytest.fixture
def connections() -> Connections:
    return Connections()


def meter(connections: Connections, tmp_path: Path, storage: Storage | None = None) -> LagMeter:
    name, signal = stack_settings(tmp_path).signal("photos")
    return LagMeter(connections, cast(StorageClient, storage or Storage()), name, signal)


def test_a_partition_without_a_commit_counts_from_its_first_record(connections: Connections, tmp_path: Path) -> None:
    lag = meter(connections, tmp_path).read().records
    assert sorted(lag.values()) == [3, 9, 9]  # joined: 7, 8, 9; embeddings: 17 to 19 and 2 to 7


def test_the_lag_of_a_renewed_log_counts_from_its_base(connections: Connections, tmp_path: Path) -> None:
    storage = Storage()
    storage.base, storage.offset = 100, 103
    lag = meter(connections, tmp_path, storage).read().records
    assert next(records for topic, records in lag.items() if topic.endswith("joined")) == 6


def test_one_connection_serves_all_answers(connections: Connections, tmp_path: Path) -> None:
    measured = meter(connections, tmp_path)
    for _ in range(5):
        measured.read()
    assert len(connections.made) == 1


def test_a_connection_that_failed_is_replaced(connections: Connections, tmp_path: Path) -> None:
    measured = meter(connections, tmp_path)
    measured.read()
    connections.made[0].down = True
    with pytest.raises(UnavailableError):
        measured.read()
    assert connections.made[0].closed
    assert measured.read()
    assert len(connections.made) == 2


def test_close_closes_both(connections: Connections, tmp_path: Path) -> None:
    storage = Storage()
    measured = meter(connections, tmp_path, storage)
    measured.read()
    measured.close()
    assert connections.made[0].closed
    assert storage.closed


def test_markers_behind_the_last_record_are_no_lag(connections: Connections, tmp_path: Path) -> None:
    lags = meter(connections, tmp_path)
    assert lags.read().records["neardup.photos.embeddings.search"] == 9
    [kafka] = connections.made
    asked = len(kafka.asked)
    assert lags.read().records["neardup.photos.embeddings.search"] == 9
    assert len(kafka.asked) == asked  # a record that was found once is not looked for again
    other = meter(connections, tmp_path)
    connections.made.clear()
    other.read()
    connections.made[-1].markers_only = True
    other._records_at.clear()
    assert other.read().records["neardup.photos.embeddings.search"] == 0


REQUEST, BROKEN = encode_request(ReplayRequest("r", ImageId("a"))), b"{"


@pytest.mark.parametrize(
    ("lanes", "applied", "waiting", "done"),
    [
        (([], []), {}, 0, 0),
        (([REQUEST] * 5, [REQUEST] * 3), {}, 8, 0),
        (([REQUEST] * 5, [REQUEST] * 3), {0: 1, 1: 2}, 3, 5),
        (([REQUEST] * 5, [REQUEST] * 3), {0: 4, 1: 2}, 0, 8),
        # Storage never applies what is no request: only what lies before the last request waits.
        (([REQUEST, BROKEN, REQUEST, BROKEN, BROKEN], [BROKEN]), {0: 0}, 2, 1),
        (([REQUEST, BROKEN, REQUEST, BROKEN, BROKEN], [BROKEN]), {0: 2}, 0, 3),
        (([REQUEST] + [BROKEN] * (LOOKED_AT - 1), []), {0: 0}, 0, 1),
    ],
)
def test_replays_wait_until_storage_has_applied_them(
    connections: Connections,
    tmp_path: Path,
    lanes: tuple[list[bytes], list[bytes]],
    applied: dict[int, int],
    waiting: int,
    done: int,
) -> None:
    storage = Storage()
    ours = [AppliedRequest(topic_id="replay-2", partition=lane, offset=offset) for lane, offset in applied.items()]
    storage.requests = (*Storage.requests, *ours)
    measured = meter(connections, tmp_path, storage)
    measured.read()
    [kafka] = connections.made
    kafka.replays = dict(enumerate(lanes))
    lag = measured.read()
    assert (lag.replays_waiting, lag.replays_applied) == (waiting, done)
    assert lag == JobLag(lag.records, waiting, done)
    looked_at = kafka.looked_at
    assert measured.read() == lag
    assert kafka.looked_at == looked_at  # a lane that does not grow is not read again
