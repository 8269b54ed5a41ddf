"""Overrides by the client, against the real HTTP API over a store whose overrides are a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.access import Access, Keys, Right
from core.overrides import OverrideMove as StoreMove
from neardup.client import ApiClient, OverrideMove, RetryPolicy
from neardup.errors import BadRequestError, ConflictError, NeardupClientError, NotFoundError
from storage.api.app import create_app
from storage.testing.decisions import A, B, founds, joins, put
from tests.support.said_overrides import SaidOverrides

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))


@pytest.fixture
def store() -> SaidOverrides:
    store = SaidOverrides()
    put(store, founds(0, A), joins(1, B, A))
    return store


def api_of(store: SaidOverrides, key: str = "write-key", page_size: int = 1000, max_page: int = 1000) -> ApiClient:
    http = TestClient(create_app(store, max_page, CollectorRegistry(), KEYS))
    return ApiClient("http://testserver", page_size=page_size, retry=RetryPolicy(retries=0), http=http, key=key)


@pytest.fixture
def api(store: SaidOverrides) -> Iterator[ApiClient]:
    with api_of(store) as api:
        yield api


def test_an_override_is_said_and_told_with_its_moves(api: ApiClient, store: SaidOverrides) -> None:
    store.moves = (StoreMove(B, A, B),)
    told = api.override("forbid", ["b"], "a", author="ann", reason="no cat")
    assert (told.created, told.moved, told.moves) == (True, 1, (OverrideMove("b", "a", "b"),))
    said = told.override
    assert (said.number, said.kind, said.images, said.target, said.undoes) == (1, "forbid", ("b",), "a", None)
    assert (said.author, said.reason, said.applied_after) == ("ann", "no cat", 1)
    assert said.at.endswith("Z")
    again = api.override("forbid", iter(["b"]), "a")
    assert (again.created, again.override) == (False, said)


def test_a_dry_run_says_nothing(api: ApiClient, store: SaidOverrides) -> None:
    store.moves = (StoreMove(B, A, B),)
    told = api.override("forbid", ["b"], "a", dry_run=True)
    assert (told.created, told.moved) == (False, 1)
    assert store.said == []


def test_an_undo_ends_an_override(api: ApiClient) -> None:
    api.override("merge", ["b"], "a")
    undo = api.override("undo", undoes=1, reason="a slip").override
    assert (undo.number, undo.undoes, undo.images, undo.target) == (2, 1, (), None)
    assert api.override_of(1).undone_by == 2
    assert api.override_of(2).undone_by is None


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000, 10_000])
def test_any_page_size_gives_the_same_overrides(store: SaidOverrides, page_size: int) -> None:
    with api_of(store, page_size=page_size, max_page=10_000) as api:
        for image in ("x", "y", "z"):
            api.override("merge", [image], "a")
        assert [each.override.images for each in api.overrides()] == [("x",), ("y",), ("z",)]
        assert [each.override.number for each in api.overrides("y")] == [2]
        assert list(api.overrides("nobody")) == []


def test_each_problem_has_its_error(api: ApiClient, store: SaidOverrides) -> None:
    api.override("forbid", ["b"], "a")
    with pytest.raises(ConflictError, match="override 1 says the contrary"):
        api.override("pin", ["b"], "a")
    with pytest.raises(BadRequestError, match="the target 'nobody' is unknown"):
        api.override("forbid", ["b"], "nobody")
    with pytest.raises(BadRequestError, match="kind"):
        api.override("hide", ["b"], "a")
    with pytest.raises(NotFoundError, match="there is no override 7"):
        api.override_of(7)
    assert len(store.said) == 1


@pytest.mark.parametrize("said", [{"images": ["\ud800"]}, {"target": "\ud800"}, {"author": "\ud800"}])
def test_what_has_no_utf8_form_is_not_sent(said: dict[str, Any]) -> None:
    http = httpx.Client(transport=httpx.MockTransport(lambda _: pytest.fail("it was sent")))
    with ApiClient("http://api.test", http=http) as api, pytest.raises(BadRequestError, match="not valid Unicode"):
        api.override("forbid", **said)


def test_reading_is_not_enough_to_say_something(store: SaidOverrides) -> None:
    with api_of(store, key="read-key") as api:
        with pytest.raises(NeardupClientError, match="write key") as caught:
            api.override("forbid", ["b"], "a")
        assert caught.value.status == 403
        assert list(api.overrides()) == []
