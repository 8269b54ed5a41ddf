"""The lag of a job: what it compares, and when it connects to Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from core.errors import UnavailableError
from storage.serving.client import StorageClient
from stream.broker import Broker, LogEnds
from stream.job_lag import LagMeter
from tests.support.stack import stack_settings


class Kafka:
    """One connection: two partitions of embeddings, ten records of `joined`."""

    def __init__(self) -> None:
        self.down = False
        self.closed = False
        self.asked: list[tuple[str, int, int]] = []
        self.markers_only = False

    def unread(self, topic: str, partition: int, offset: int) -> int:
        self.asked.append((topic, partition, offset))
        return 0 if self.markers_only else self.ends(topic)[partition].end - offset

    def ends(self, topic: str) -> dict[int, LogEnds]:
        if self.down:
            raise UnavailableError("no answer")
        if topic.endswith("joined"):
            return {0: LogEnds(0, 10)}
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
    lag = meter(connections, tmp_path).read()
    assert sorted(lag.values()) == [3, 9, 9]  # joined: 7, 8, 9; embeddings: 17 to 19 and 2 to 7


def test_the_lag_of_a_renewed_log_counts_from_its_base(connections: Connections, tmp_path: Path) -> None:
    storage = Storage()
    storage.base, storage.offset = 100, 103
    lag = meter(connections, tmp_path, storage).read()
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
    assert lags.read()["neardup.photos.embeddings.search"] == 9
    [kafka] = connections.made
    asked = len(kafka.asked)
    assert lags.read()["neardup.photos.embeddings.search"] == 9
    assert len(kafka.asked) == asked  # a record that was found once is not looked for again
    other = meter(connections, tmp_path)
    connections.made.clear()
    other.read()
    connections.made[-1].markers_only = True
    other._records_at.clear()
    assert other.read()["neardup.photos.embeddings.search"] == 0
