"""The route of a cluster's history: by pages, by time, for ids that need care, and for what is gone."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.overrides import OverrideKind, OverrideRequest, RollbackRequest
from core.types import ImageId
from storage.api.app import create_app
from storage.api.paths import whole_id_path
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, D, deletes, founds, joins, put
from storage.testing.overrides import JOB, say

HOUR_MS = 3_600_000


@pytest.fixture
def store() -> MemoryStore:
    """Three images come at one o'clock, a fourth at two. At three, one is forbidden to stay and one is deleted."""
    hours = iter([1, 2, 3, 3])
    store = MemoryStore(now_ms=lambda: next(hours) * HOUR_MS)
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), kinds=JOB)
    put(store, joins(3, D, A), kinds=JOB)
    say(store, OverrideKind.FORBID, B, target=A)
    put(store, deletes(4, C, A), kinds=JOB)
    return store


@pytest.fixture
def client(store: MemoryStore) -> TestClient:
    return TestClient(create_app(store, 10, CollectorRegistry()))


def read(client: TestClient, head: str, **query: Any) -> dict[str, Any]:
    answer = client.get(f"/v1/clusters/{quote(head, safe='')}/history", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def numbers(found: dict[str, Any]) -> list[int]:
    return [each["history_number"] for each in found["changes"]]


def test_who_joined_and_who_left_newest_first(client: TestClient) -> None:
    found = read(client, "a")
    assert [(each["image_id"], each["old_head"], each["head"], each["trigger"]) for each in found["changes"]] == [
        ("c", "a", "", "stream"),
        ("b", "a", "b", "override"),
        ("d", None, "a", "stream"),
        ("c", None, "a", "stream"),
        ("b", None, "a", "stream"),
        ("a", None, "a", "stream"),
    ]
    assert [each["override"] for each in found["changes"]] == [None, 1, None, None, None, None]
    assert (found["head"], found["looked_from"], found["next_page_token"]) == ("a", 1, None)
    assert numbers(read(client, "b")) == [5]


@pytest.mark.parametrize("looked_at", [1, 2, 3, 10_000])
@pytest.mark.parametrize("limit", [1, 2, 10])
def test_any_page_gives_the_same_changes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, looked_at: int, limit: int
) -> None:
    monkeypatch.setattr("storage.api.cluster_history.LOOKED_AT", looked_at)
    found, token = list[int](), None
    while True:
        page = read(client, "a", limit=limit, **({} if token is None else {"page_token": token}))
        found += numbers(page)
        token = page["next_page_token"]
        if token is None:
            break
    assert found == [6, 5, 4, 3, 2, 1]


def test_pages_belong_together_while_the_store_is_written(client: TestClient, store: MemoryStore) -> None:
    first = read(client, "a", limit=2)
    store._now_ms = lambda: 4 * HOUR_MS
    put(store, deletes(5, D, A), kinds=JOB)
    assert numbers(first) == [6, 5]
    assert numbers(read(client, "a", page_token=first["next_page_token"])) == [4, 3, 2, 1]


def test_only_since_a_time(client: TestClient) -> None:
    assert numbers(read(client, "a", since="1970-01-01T02:00:00Z")) == [6, 5, 4]
    assert numbers(read(client, "a", since=2 * HOUR_MS + 999)) == [6, 5, 4]  # to the second
    assert numbers(read(client, "a", since=2 * HOUR_MS + 1_000)) == [6, 5]
    assert numbers(read(client, "a", since=0)) == [6, 5, 4, 3, 2, 1]
    later = read(client, "a", since=4 * HOUR_MS)
    assert (later["changes"], later["next_page_token"]) == ([], None)


def test_a_head_that_is_gone_is_known_by_its_own_history(client: TestClient, store: MemoryStore) -> None:
    assert numbers(read(client, "c")) == []
    answer = client.get("/v1/clusters/nobody/history")
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown-cluster")
    assert client.get(f"/v1/clusters/{'x' * 300}/history").status_code == 404


def test_what_is_not_kept_is_not_looked_for(client: TestClient, store: MemoryStore) -> None:
    store.set_published(6)
    store.sweep_history(4, 10)
    for query in ({}, {"since": 0}, {"since": 2 * HOUR_MS}):
        found = read(client, "a", **query)
        assert (numbers(found), found["looked_from"], found["next_page_token"]) == ([6, 5, 4], 4, None)
        assert found["history_first"] == 4
    found = read(client, "b", limit=1)
    assert (numbers(found), found["next_page_token"] is None) == ([5], False)
    assert client.get("/v1/clusters/nobody/history").status_code == 404


@pytest.mark.parametrize("query", ["limit=0", "limit=11", "page_token=x", "since=yesterday", "since=2026-11-28"])
def test_what_cannot_be_is_refused(client: TestClient, query: str) -> None:
    answer = client.get(f"/v1/clusters/a/history?{query}")
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")


def test_a_token_of_another_head_is_refused(client: TestClient) -> None:
    token = read(client, "a", limit=1)["next_page_token"]
    answer = client.get("/v1/clusters/b/history", params={"page_token": token})
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")


def test_ids_that_need_care() -> None:
    store, hard = MemoryStore(), ImageId("a/b?c=%2F/history")
    put(store, founds(0, hard))
    client = TestClient(create_app(store, 10, CollectorRegistry()))
    assert read(client, hard)["changes"][0]["image_id"] == hard
    assert whole_id_path(b"/v1/clusters/a/b/history", "") == "/v1/clusters/a%2Fb/history"
    assert whole_id_path(b"/v1/clusters/a%2Fhistory", "") == "/v1/clusters/a%2Fhistory"


def test_a_rollback_is_named() -> None:
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), founds(2, B, old=A, version=2), kinds=JOB)
    request = OverrideRequest(OverrideKind.ROLLBACK, rollback=RollbackRequest(to_change=2))
    store.override(request, 99)
    client = TestClient(create_app(store, 10, CollectorRegistry()))
    newest = read(client, "a")["changes"][0]
    assert (newest["image_id"], newest["trigger"], newest["override"]) == ("b", "rollback", 1)
