"""The history of a cluster by the client, against the real HTTP API over a store in memory."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from neardup.client import ApiClient, RetryPolicy
from neardup.errors import BadRequestError, NotFoundError
from storage.api.app import create_app
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, deletes, founds, joins, put

WROTE = datetime(2026, 11, 28, 7, tzinfo=UTC)


@pytest.fixture
def http() -> TestClient:
    """Over a cluster of three, written at `WROTE`; an hour later one member was deleted."""
    times = iter([WROTE, WROTE + timedelta(hours=1)])
    store = MemoryStore(now_ms=lambda: int(next(times).timestamp() * 1000))
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A))
    put(store, deletes(3, B, A))
    return TestClient(create_app(store, 1000, CollectorRegistry()))


def api_of(http: TestClient, page_size: int = 1000) -> ApiClient:
    return ApiClient("http://testserver", page_size=page_size, retry=RetryPolicy(retries=0), http=http)


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
@pytest.mark.parametrize("looked_at", [1, 2, 1000])
def test_any_page_size_gives_the_same_changes(
    http: TestClient, monkeypatch: pytest.MonkeyPatch, page_size: int, looked_at: int
) -> None:
    monkeypatch.setattr("storage.api.cluster_history.LOOKED_AT", looked_at)
    told = list(api_of(http, page_size).cluster_history("a"))
    assert [(each.history_number, each.image_id, each.old_head, each.head) for each in told] == [
        (4, "b", "a", ""),
        (3, "c", None, "a"),
        (2, "b", None, "a"),
        (1, "a", None, "a"),
    ]


def test_the_answer_is_that_of_the_service(http: TestClient) -> None:
    page = asdict(api_of(http).cluster_history_page("a", limit=2))
    assert {**page, "changes": list(page["changes"])} == http.get("/v1/clusters/a/history?limit=2").json()


def test_since_a_time_with_a_zone_or_in_milliseconds(http: TestClient) -> None:
    later = WROTE + timedelta(minutes=30)
    for since in (later, int(later.timestamp() * 1000)):
        assert [each.image_id for each in api_of(http, 1).cluster_history("a", since=since)] == ["b"]
    assert len(list(api_of(http).cluster_history("a", since=0))) == 4
    with pytest.raises(BadRequestError, match="has a zone"):
        api_of(http).cluster_history_page("a", since=WROTE.replace(tzinfo=None))


def test_an_unknown_cluster(http: TestClient) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        list(api_of(http).cluster_history("nobody"))
