"""The routes of the past: by time, page by page, for ids and times that need care in a path."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.types import ImageId
from storage.api.app import create_app
from storage.api.paths import whole_id_path
from storage.api.times import time_ms
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, deletes, founds, joins, put

HARD = ImageId("a/b?c=%2F/members")


class Hours:
    """A clock that tells the hour that it is set to."""

    def __init__(self) -> None:
        self.hour = 1

    def __call__(self) -> int:
        return self.hour * 3_600_000


@pytest.fixture
def clock() -> Hours:
    return Hours()


@pytest.fixture
def store(clock: Hours) -> MemoryStore:
    """At one o'clock a cluster of two and another one; at two a third member; at three one is deleted."""
    store = MemoryStore(now_ms=clock)
    put(store, founds(0, A), joins(1, B, A), founds(2, HARD))
    clock.hour = 2
    put(store, joins(3, C, A))
    clock.hour = 3
    put(store, deletes(4, B, A))
    return store


@pytest.fixture
def client(store: MemoryStore) -> TestClient:
    return TestClient(create_app(store, 2, CollectorRegistry()))


def read(client: TestClient, path: str, **query: int) -> Any:
    answer = client.get(f"/v1/at/{path}", params=query)
    assert answer.status_code == 200
    return answer.json()


@pytest.mark.parametrize(
    ("time", "number", "head"),
    [("1970-01-01T00:00:00Z", 0, None), ("7199999", 3, "a"), ("1970-01-01T02:00Z", 4, "a"), ("10800000", 5, None)],
)
def test_a_head_as_it_was(client: TestClient, time: str, number: int, head: str | None) -> None:
    told = {"image_id": "b", "time": read(client, f"{time}/images/b")["time"], "history_number": number, "head": head}
    assert read(client, f"{time}/images/b") == told


def test_the_time_is_told_in_utc(client: TestClient) -> None:
    assert read(client, "1970-01-01T04:30:00.25+02:00/images/a")["time"] == "1970-01-01T02:30:00.250Z"


def test_an_image_that_nobody_knows_had_no_head(client: TestClient) -> None:
    assert read(client, "7200000/images/nobody")["head"] is None


def test_members_as_they_were(client: TestClient) -> None:
    assert read(client, "1970-01-01T02:00:00Z/clusters/a/members") == {
        "head": "a",
        "time": "1970-01-01T02:00:00.000Z",
        "history_number": 4,
        "count": 3,
        "members": ["a", "b"],
    }
    rest = read(client, "1970-01-01T02:00:00Z/clusters/a/members", offset=2)
    assert (rest["count"], rest["members"]) == (3, ["c"])
    assert read(client, "7200000/clusters/a/members", offset=1, limit=1)["members"] == ["b"]
    assert read(client, "7200000/clusters/a/members", offset=3)["members"] == []
    assert read(client, "10800000/clusters/a/members")["members"] == ["a", "c"]
    assert read(client, "7200000/clusters/nobody/members")["count"] == 0


def test_pages_belong_together_while_the_store_is_written(client: TestClient, store: MemoryStore) -> None:
    first = read(client, "99999999/clusters/a/members", limit=1)
    put(store, deletes(5, A, A))
    rest = read(client, "99999999/clusters/a/members", offset=1, history_number=first["history_number"])
    assert (first["members"], rest["members"], rest["history_number"]) == (["a"], ["c"], 5)
    assert read(client, "99999999/clusters/a/members")["members"] == ["c"]


def test_ids_that_need_care(client: TestClient) -> None:
    escaped = quote(HARD, safe="")
    assert read(client, f"7200000/images/{escaped}") == {
        "image_id": HARD,
        "time": "1970-01-01T02:00:00.000Z",
        "history_number": 4,
        "head": HARD,
    }
    assert read(client, f"7200000/images/{quote(HARD)}")["head"] == HARD
    assert read(client, f"7200000/clusters/{escaped}/members")["members"] == [HARD]


@pytest.mark.parametrize("time", ["now", "2026-11-28", "2026-11-28T07:00:00", "-5", "1e3", "٣", "2026-11-28T07:00%2FZ"])
@pytest.mark.parametrize("path", ["images/a", "clusters/a/members"])
def test_another_form_of_time_is_refused(client: TestClient, time: str, path: str) -> None:
    answer = client.get(f"/v1/at/{time}/{path}")
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert "ISO 8601 with a zone" in answer.json()["detail"]


@pytest.mark.parametrize("query", ["limit=0", "limit=3", "offset=-1", "history_number=6", "history_number=-1"])
def test_a_page_that_cannot_be_is_refused(client: TestClient, query: str) -> None:
    answer = client.get(f"/v1/at/7200000/clusters/a/members?{query}")
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")


def test_too_many_changes_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.api.past.MAX_CHANGES", 1)
    assert read(client, "7200000/clusters/a/members")["count"] == 3
    answer = client.get("/v1/at/3600000/clusters/a/members")
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert "2 changes came since" in answer.json()["detail"]


def test_a_time_before_what_is_kept_is_refused(client: TestClient, store: MemoryStore) -> None:
    """The changes of one o'clock go. What was so from two o'clock on is known still."""
    store.set_published(5)
    store.sweep_history(5, 10)
    for path in ("images/a", "clusters/a/members"):
        answer = client.get(f"/v1/at/7199999/{path}")
        assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
        assert "the past is known from 1970-01-01T02:00:00Z on" in answer.json()["detail"]
    assert [read(client, f"7200000/images/{each}")["head"] for each in "abc"] == ["a", "a", "a"]
    assert read(client, "7200000/clusters/a/members")["count"] == 3
    assert read(client, "10800000/images/b")["head"] is None
    answer = client.get("/v1/at/7200000/clusters/a/members?history_number=3")
    assert (answer.status_code, "not as of number 3" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("0", 0),
        ("1764313200123", 1_764_313_200_123),
        ("2025-11-28T07:00:00Z", 1_764_313_200_000),
        ("2025-11-28T08:00:00.123+01:00", 1_764_313_200_123),
        ("20251128T070000Z", 1_764_313_200_000),
        ("1969-12-31T23:59:59Z", 0),
        ("0001-01-01T00:00:00+23:59", 0),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139_000),
    ],
)
def test_times(text: str, time: int) -> None:
    assert time_ms(text) == time


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/v1/at/1/images/a", "/v1/at/1/images/a"),
        (b"/v1/at/1/images/a/members", "/v1/at/1/images/a%2Fmembers"),
        (b"/v1/at/1/clusters/a/b/members", "/v1/at/1/clusters/a%2Fb/members"),
        (b"/v1/at/1/clusters/a%2Fmembers", "/v1/at/1/clusters/a%2Fmembers"),
        (b"/v1/at/2026-11-28T07%3A00%2B01%3A00/images/a", "/v1/at/2026-11-28T07:00+01:00/images/a"),
        (b"/v1/at/a%2Fb/images/a", "/v1/at/a%2Fb/images/a"),
        (b"/v1/at//images/a", "decoded"),
        (b"/v1/at/1/others/a", "decoded"),
    ],
)
def test_paths_are_read_as_they_came(raw: bytes, path: str) -> None:
    assert whole_id_path(raw, "decoded") == path
