"""Bulk moves by the client, against the real HTTP API over a store whose bulk moves are a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.access import Access, Keys, Right
from neardup.client import ApiClient, OperationInfo, RetryPolicy
from neardup.errors import BadRequestError, NeardupClientError, NotFoundError
from storage.api.app import create_app
from tests.support.known_operations import DONE, MOVING, PLANNING, KnownOperations, filled_operations

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
AT = "2025-11-28T12:00:00.123Z"
LISTED = [
    OperationInfo(1, "pin", "done", 20_000, 20_000, 5, AT, "2025-11-28T12:00:04.123Z", 1, None),
    OperationInfo(2, "merge", "moving", 1_100_000, 412_000, 20_005, AT, None, 2, None),
    OperationInfo(4, None, "planning", 30_000, 0, None, AT, None, 4, None),
]


@pytest.fixture
def store() -> KnownOperations:
    return filled_operations()


def api_of(store: KnownOperations, key: str = "write-key", page_size: int = 1000, max_page: int = 1000) -> ApiClient:
    http = TestClient(create_app(store, max_page, CollectorRegistry(), KEYS))
    return ApiClient("http://testserver", page_size=page_size, retry=RetryPolicy(retries=0), http=http, key=key)


@pytest.fixture
def api(store: KnownOperations) -> Iterator[ApiClient]:
    with api_of(store) as api:
        yield api


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000, 10_000])
def test_any_page_size_gives_the_same_moves(store: KnownOperations, page_size: int) -> None:
    with api_of(store, page_size=page_size, max_page=10_000) as api:
        assert list(api.operations()) == LISTED
        assert [api.operation_of(each.number) for each in LISTED] == LISTED


def test_a_page_says_where_the_next_begins(api: ApiClient) -> None:
    page = api.operations_page(limit=1)
    assert (page.operations, page.next_after) == ((LISTED[0],), 1)
    page = api.operations_page(1)
    assert (list(page.operations), page.next_after) == (LISTED[1:], None)


def test_a_move_rests_goes_on_and_a_plan_is_cancelled(api: ApiClient, store: KnownOperations) -> None:
    assert api.pause_operation(2) == replace(LISTED[1], state="paused") == api.operation_of(2)
    assert api.resume_operation(2) == LISTED[1] == api.operation_of(2)
    assert api.cancel_operation(4) == LISTED[2]
    assert store.moves == {1: DONE, 2: MOVING}


@pytest.mark.parametrize(
    ("call", "error", "problem"),
    [
        (lambda api: api.operation_of(3), NotFoundError, "there is no bulk move 3"),
        (lambda api: api.pause_operation(3), NotFoundError, "there is no bulk move 3"),
        (lambda api: api.pause_operation(1), BadRequestError, "no bulk move 1 is under way"),
        (lambda api: api.resume_operation(4), BadRequestError, "no bulk move 4 is under way"),
        (lambda api: api.cancel_operation(2), BadRequestError, "no bulk move 2 is being planned"),
        (lambda api: api.operations_page(limit=0), BadRequestError, "limit"),
    ],
)
def test_each_problem_has_its_error(
    api: ApiClient, store: KnownOperations, call: Callable[[ApiClient], object], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        call(api)
    assert store.moves == {1: DONE, 2: MOVING, 4: PLANNING}


def test_reading_is_not_enough_to_steer(store: KnownOperations) -> None:
    with api_of(store, "read-key") as api:
        assert list(api.operations()) == LISTED
        for steer, number in ((api.pause_operation, 2), (api.resume_operation, 2), (api.cancel_operation, 4)):
            with pytest.raises(NeardupClientError, match="write key") as caught:
                steer(number)
            assert caught.value.status == 403
