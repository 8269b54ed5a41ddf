"""Rollbacks by the client, against the real HTTP API over a store that a bad model has changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.access import Access, Keys, Right
from neardup.client import (
    ApiClient,
    ChangeFilter,
    OverrideMove,
    RetryPolicy,
    RollbackInfo,
    RollbackPoint,
    RollbackRequest,
)
from neardup.errors import BadRequestError, NeardupClientError, ServiceUnavailableError
from storage.api.app import create_app
from tests.support.bad_hour import AT_10_30_MS, AT_11_30_MS, bad_hour_store

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
HALF_PAST = datetime(2025, 11, 28, 10, 30, tzinfo=UTC)
BACK = RollbackRequest(to_change=3)


def api_of(key: str = "write-key") -> ApiClient:
    http = TestClient(create_app(bad_hour_store(), 1000, CollectorRegistry(), KEYS))
    return ApiClient("http://testserver", retry=RetryPolicy(retries=0), http=http, key=key)


@pytest.fixture
def api() -> Iterator[ApiClient]:
    with api_of() as api:
        yield api


def test_images_go_back_and_an_undo_brings_them_again(api: ApiClient) -> None:
    told = api.rollback(RollbackRequest(HALF_PAST, where=ChangeFilter(model="bad")), author="ann", reason="bad")
    assert (told.created, told.moved) == (True, 2)
    assert told.moves == (OverrideMove("c", "a", "c"), OverrideMove("d", "a", "d"))
    said, point = told.override, RollbackPoint(2, None)
    assert (said.number, said.kind, said.images, said.target, said.author, said.reason) == (
        *(1, "rollback", (), None),
        *("ann", "bad"),
    )
    assert said.rollback == RollbackInfo(point, point, ChangeFilter(model="bad"), "decide", None, None)
    assert api.heads("abcd") == {"a": "a", "b": "a", "c": "c", "d": "d"}
    undo = api.override("undo", undoes=1)
    assert undo.override.rollback is not None
    assert (undo.moved, undo.override.rollback.of) == (2, 1)
    assert api.heads("abcd") == dict.fromkeys("abcd", "a")
    assert [each.override for each in api.overrides()] == [said, undo.override]
    again = api.rollback(RollbackRequest(to_change=7)).override.rollback
    assert again is not None
    assert again.to == RollbackPoint(4, 1)


@pytest.mark.parametrize("to", [HALF_PAST, HALF_PAST.astimezone(timezone(timedelta(hours=1))), AT_10_30_MS])
def test_a_dry_run_says_nothing(api: ApiClient, to: datetime | int) -> None:
    told = api.rollback(RollbackRequest(to), dry_run=True)
    assert (told.created, told.moved) == (False, 2)
    assert list(api.overrides()) == []


@pytest.mark.parametrize(
    ("asked", "moved"),
    [
        (RollbackRequest(to_change=0), 3),
        (RollbackRequest(-1), 3),
        (RollbackRequest(to_change=3, new="keep"), 1),
        (RollbackRequest(to_change=3, since=AT_11_30_MS), 0),
        (RollbackRequest(to_change=0, since=HALF_PAST), 2),
        (RollbackRequest(to_change=3, where=ChangeFilter(head="c", cause="matched")), 1),
    ],
)
def test_only_what_is_asked_for_moves(api: ApiClient, asked: RollbackRequest, moved: int) -> None:
    assert api.rollback(asked).moved == moved


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (RollbackRequest(), "name one of them"),
        (RollbackRequest(HALF_PAST, 3), "name one of them"),
        (RollbackRequest(HALF_PAST.replace(tzinfo=None)), "has a zone"),
        (RollbackRequest(to_change=3, since=HALF_PAST.replace(tzinfo=None)), "has a zone"),
        (RollbackRequest(to_change=6), "there is no change 6"),
        (RollbackRequest(to_change=3, new="drop"), "new"),
        (RollbackRequest(to_change=3, where=ChangeFilter(cause="hidden")), "cause"),
        (RollbackRequest(to_change=3, where=ChangeFilter(model="\ud800")), "not valid Unicode"),
    ],
)
def test_what_makes_no_sense_is_refused(api: ApiClient, asked: RollbackRequest, problem: str) -> None:
    with pytest.raises(BadRequestError, match=problem):
        api.rollback(asked)
    assert list(api.overrides()) == []


def test_reading_is_not_enough() -> None:
    with api_of("read-key") as api:
        with pytest.raises(NeardupClientError, match="write key") as caught:
            api.rollback(BACK, dry_run=True)
        assert caught.value.status == 403


def test_an_override_of_an_earlier_release_is_read() -> None:
    answer: dict[str, Any] = {
        "number": 1,
        "kind": "pin",
        "images": ["b"],
        "target": "a",
        "undoes": None,
        "author": "",
        "reason": "",
        "at": "2025-11-28T10:00:00.000Z",
        "applied_after": 2,
        "undone_by": None,
        "waits": False,
    }
    http = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=answer)))
    with ApiClient("http://api.test", http=http) as api:
        assert api.override_of(1).override.rollback is None


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def cut_off(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("no answer", request=request)


def failing(request: httpx.Request) -> httpx.Response:
    return httpx.Response(503, json={"error": "storage", "detail": "try again"})


@pytest.mark.parametrize(("answer", "calls"), [(unreachable, 3), (cut_off, 1), (failing, 1)])
def test_a_rollback_that_may_have_arrived_is_not_sent_again(
    answer: Callable[[httpx.Request], httpx.Response], calls: int
) -> None:
    """A dry run and any other override are."""
    sent = itertools.count()

    def counting(request: httpx.Request) -> httpx.Response:
        next(sent)
        return answer(request)

    http = httpx.Client(transport=httpx.MockTransport(counting))
    with ApiClient("http://api.test", http=http, retry=RetryPolicy(retries=2, first_wait_s=0.0)) as api:
        with pytest.raises(ServiceUnavailableError):
            api.rollback(BACK)
        assert next(sent) == calls
        with pytest.raises(ServiceUnavailableError):
            api.rollback(BACK, dry_run=True)
        assert next(sent) == calls + 4
        with pytest.raises(ServiceUnavailableError):
            api.override("merge", ["b"], "a")
        assert next(sent) == calls + 8


@pytest.mark.parametrize(("kind", "timeout_s"), [("merge", 60.0), ("undo", 60.0), ("pin", 60.0), ("forbid", 10.0)])
def test_what_may_move_many_images_may_take_longer(kind: str, timeout_s: float) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.extensions["timeout"]["read"])
        return httpx.Response(400, json={"error": "bad-input", "detail": "no"})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    with ApiClient("http://api.test", http=http) as api:
        with pytest.raises(BadRequestError):
            api.override(kind, ["b"], "a")
        with pytest.raises(BadRequestError):
            api.rollback(BACK)
    assert asked == [timeout_s, 60.0]
