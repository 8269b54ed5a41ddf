"""The past by the client, against the real HTTP API over a store in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from neardup.client import ApiClient, PastHead, PastMembers, RetryPolicy
from neardup.errors import BadRequestError
from storage.api.app import create_app
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, deletes, founds, joins, put

WROTE = datetime(2026, 11, 28, 7, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryStore:
    """A cluster of three, written at `WROTE`; an hour later one member was deleted."""
    times = iter([WROTE, WROTE + timedelta(hours=1)])
    store = MemoryStore(now_ms=lambda: int(next(times).timestamp() * 1000))
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A))
    put(store, deletes(3, B, A))
    return store


def api_of(store: MemoryStore, page_size: int = 1000) -> ApiClient:
    http = TestClient(create_app(store, 1000, CollectorRegistry()))
    return ApiClient("http://testserver", page_size=page_size, retry=RetryPolicy(retries=0), http=http)


def test_a_head_as_it_was(store: MemoryStore) -> None:
    api = api_of(store)
    assert api.head_at("b", WROTE) == PastHead("b", "2026-11-28T07:00:00.000Z", 3, "a")
    assert api.head_at("b", WROTE - timedelta(seconds=1)).history_number == 3  # decided in 1970, by their own times
    assert api.head_at("b", WROTE + timedelta(hours=2)).head is None
    assert api.head_at("nobody", WROTE).head is None


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
def test_any_page_size_gives_the_same_members(store: MemoryStore, page_size: int) -> None:
    told = api_of(store, page_size).members_at("a", WROTE)
    assert told == PastMembers("a", "2026-11-28T07:00:00.000Z", 3, 3, ("a", "b", "c"))
    assert api_of(store, page_size).members_at("nobody", WROTE).members == ()


def test_a_time_has_a_zone_or_is_milliseconds(store: MemoryStore) -> None:
    api = api_of(store)
    zone = timezone(timedelta(hours=5, minutes=30))
    expected = api.members_at("a", WROTE)
    assert api.members_at("a", WROTE.astimezone(zone)) == expected
    assert api.members_at("a", int(WROTE.timestamp() * 1000)) == expected
    assert api.head_at("a", -1).time == "1970-01-01T00:00:00.000Z"
    assert api.head_at("a", datetime(1, 1, 1, tzinfo=UTC)).history_number == 0
    for ask in (api.members_at, api.head_at):
        with pytest.raises(BadRequestError, match="has a zone"):
            ask("a", WROTE.replace(tzinfo=None))


def test_ids_that_need_care(store: MemoryStore) -> None:
    api = api_of(store)
    assert api.head_at("a/members", WROTE).image_id == "a/members"
    assert api.members_at("a/ö%2F?", WROTE).head == "a/ö%2F?"
    with pytest.raises(BadRequestError, match="at least one character"):
        api.head_at("", WROTE)
