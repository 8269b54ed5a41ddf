"""The client of the HTTP API: paths, pages, errors."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from core.errors import BadInputError, ServiceError, UnavailableError
from stream.api_client import ApiClient, Json
from stream.errors import NotFoundError

MEMBERS = [f"image-{number}" for number in range(7)]


class PagedApi:
    """Answers like the real one, a cluster of seven; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        self.asked.append((request.url.raw_path.decode().partition("?")[0], query))
        first = int(query.get("page_token", "0"))
        after = first + int(query["limit"])
        token = str(after) if after < len(MEMBERS) else None
        page: Json = {"head": "h", "count": len(MEMBERS), "members": MEMBERS[first:after], "next_page_token": token}
        return httpx.Response(200, json=page)


def client(answer: Callable[[httpx.Request], httpx.Response], max_page: int = 1000) -> ApiClient:
    return ApiClient("http://api.test", max_page=max_page, transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("max_page", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("limit", [None, 1, 3, 6, 7, 8, 5000])
def test_any_page_size_gives_the_same_whole(max_page: int, limit: int | None) -> None:
    api = PagedApi()
    with client(api, max_page) as asked:
        assert list(asked.members("h", limit)) == MEMBERS[:limit]
        assert list(asked.similar("x", limit)) == MEMBERS[:limit]
    assert all(int(query["limit"]) <= max_page for _, query in api.asked)


def test_a_first_page_is_not_asked_for_again() -> None:
    api = PagedApi()
    with client(api, 3) as asked:
        first = asked.similar_page("x", 3)
        assert list(asked.similar("x", first=first)) == MEMBERS
    assert [query.get("page_token") for _, query in api.asked] == [None, "3", "6"]


@pytest.mark.parametrize(
    ("image_id", "path"),
    [
        ("a/b", "/v1/images/a%2Fb"),
        ("50%", "/v1/images/50%25"),
        ("ü?#", "/v1/images/%C3%BC%3F%23"),
        ("..", "/v1/images/%2E%2E"),
    ],
)
def test_ids_are_one_part_of_the_path(image_id: str, path: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return httpx.Response(200, json={"image_id": image_id})

    with client(answer) as api:
        assert api.image(image_id)["image_id"] == image_id
    assert asked == [path]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFoundError),
        (400, BadInputError),
        (422, BadInputError),
        (503, UnavailableError),
        (429, UnavailableError),
        (500, ServiceError),
        (401, ServiceError),
    ],
)
def test_each_status_has_its_error_with_the_reason(status: int, kind: type[Exception]) -> None:
    with (
        client(lambda _: httpx.Response(status, json={"detail": "because"})) as api,
        pytest.raises(kind, match="because"),
    ):
        api.image("a")


def test_an_answer_that_is_no_json_is_shown_as_it_is() -> None:
    with (
        client(lambda _: httpx.Response(500, text="<b>broken</b>")) as api,
        pytest.raises(ServiceError, match="broken"),
    ):
        api.stats()


def test_nobody_there() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with client(refuse) as api, pytest.raises(UnavailableError, match=r"http://api\.test: refused"):
        api.stats()
