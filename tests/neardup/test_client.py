"""The client of the HTTP API: paths, pages, retries, errors, and the answers of the real API."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import httpx
import pytest

from core.types import Cause, Decision, ImageId, Move, Outcome, Versions
from neardup.answers import ImageInfo
from neardup.client import ApiClient, RetryPolicy
from neardup.errors import (
    BadRequestError,
    ConflictError,
    DeletedError,
    MovedError,
    NeardupClientError,
    NotFoundError,
    ServiceUnavailableError,
)
from storage.api.schemas import ClusterOut, HistoryOut, ImageOut, StatsOut
from storage.memory import MemoryStore

MEMBERS = tuple(f"image-{number}" for number in range(7))

IMAGE: dict[str, Any] = {
    "image_id": "a",
    "head": "b",
    "score": 0.75,
    "matched": "b",
    "cause": "matched",
    "place": 3,
    "decided_at": "2026-01-01T00:00:00.000Z",
    "version": 1,
    "versions": {"model": "m", "index": "i"},
    "truncated": False,
}

STATS: dict[str, Any] = {
    "images": 1,
    "clusters": 1,
    "duplicates": 0,
    "superseded": 0,
    "history_number": 1,
    "published": 1,
    "revision": 0,
    "position": {"log_id": "log", "offset": 0, "checksum": 7, "base": 0},
}

Answer = Callable[[httpx.Request], httpx.Response]


class PagedApi:
    """Answers like the real one, a cluster of seven; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        self.asked.append(query)
        first = int(query.get("page_token", "0"))
        after = first + int(query["limit"])
        token = str(after) if after < len(MEMBERS) else None
        page = {"members": MEMBERS[first:after], "next_page_token": token}
        return httpx.Response(200, json={"image_id": "x", "head": "h", "count": len(MEMBERS), **page})


class Script:
    """Gives one answer after the other; an exception is raised."""

    def __init__(self, answers: Sequence[httpx.Response | Exception]) -> None:
        self.answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def client(answer: Answer, page_size: int = 1000, retry: RetryPolicy | None = None) -> ApiClient:
    http = httpx.Client(transport=httpx.MockTransport(answer))
    return ApiClient("http://api.test/", page_size=page_size, retry=retry or RetryPolicy(retries=0), http=http)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which pass at once."""
    waits: list[float] = []
    monkeypatch.setattr("neardup.calls.time.sleep", waits.append)
    return waits


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("limit", [None, 1, 3, 6, 7, 8, 5000])
def test_any_page_size_gives_the_same_whole(page_size: int, limit: int | None) -> None:
    service = PagedApi()
    with client(service, page_size) as api:
        assert tuple(api.members("h", limit)) == MEMBERS[:limit]
        assert tuple(api.similar("x", limit)) == MEMBERS[:limit]
    assert all(int(query["limit"]) <= page_size for query in service.asked)


def test_pages_are_read_as_they_are_needed() -> None:
    service = PagedApi()
    with client(service, 3) as api:
        members = api.members("h")
        assert [next(members) for _ in range(3)] == list(MEMBERS[:3])
        assert len(service.asked) == 1


def test_the_newest_come_first_where_they_are_asked_for_so() -> None:
    service = PagedApi()
    with client(service, 3) as api:
        list(api.members("h", newest_first=True))
        api.similar_page("x", 3, newest_first=True)
    assert {query["order"] for query in service.asked} == {"newest"}


def test_heads_of_many_are_asked_for_in_parts() -> None:
    asked: list[list[str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/v1/images:lookup")
        ids = json.loads(request.content)["image_ids"]
        asked.append(ids)
        return httpx.Response(200, json={"heads": {each: f"head of {each}" for each in ids if each != "7"}})

    ids = [str(number) for number in range(2_345)]
    with client(answer) as api:
        assert api.heads(iter(ids)) == {each: f"head of {each}" for each in ids if each != "7"}
        assert api.heads([]) == {}
    assert [len(each) for each in asked] == [1000, 1000, 345]


def test_the_history_is_read_page_by_page() -> None:
    change = {**IMAGE, "history_number": 1, "offset": 0, "old_head": None}

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/images/a/history"
        number = int(request.url.params.get("page_token", "1"))
        page = {
            "changes": [{**change, "history_number": number}],
            "next_page_token": None if number == 3 else number + 1,
        }
        return httpx.Response(200, json={"image_id": "a", **page})

    with client(answer) as api:
        assert [each.history_number for each in api.history("a")] == [1, 2, 3]


def test_a_first_page_is_not_asked_for_again() -> None:
    service = PagedApi()
    with client(service, 3) as api:
        first = api.similar_page("x", 3)
        assert (first.head, first.count) == ("h", 7)
        assert tuple(api.similar("x", first=first)) == MEMBERS
    assert [query.get("page_token") for query in service.asked] == [None, "3", "6"]


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
        return httpx.Response(200, json={**IMAGE, "image_id": image_id})

    with client(answer) as api:
        assert api.image(image_id).image_id == image_id
    assert asked == [path]


def test_unknown_keys_are_ignored() -> None:
    known = ImageInfo.from_json(IMAGE)
    newer = {**IMAGE, "colour": "red", "versions": {"model": "m", "index": "i", "house": "h"}}
    with client(lambda _: httpx.Response(200, json=newer)) as api:
        assert api.image("a") == known


def test_the_real_apis_answers_have_the_same_keys() -> None:
    store = MemoryStore()
    move = Move(ImageId("a"), None, ImageId("a"), Cause.FOUNDED)
    decision = Decision(
        offset=0,
        checksum=0,
        outcome=Outcome.DECIDED,
        image_id=ImageId("a"),
        version=1,
        place=0,
        moves=(move,),
        score_code=b"\x01",
        search_vector=b"\x00\x3c",
        score_vector=b"\x00\x3c",
        versions=Versions("m", "i"),
    )
    store.apply("log", [decision], -1, 0)
    image, cluster = store.image(ImageId("a")), store.cluster(ImageId("a"))
    assert image is not None
    assert cluster is not None
    with store.snapshot() as view:
        history = HistoryOut.of(ImageId("a"), view.changes(ImageId("a"), 10), 1)
    answers = {
        "/v1/images/a": ImageOut.of(image).model_dump(),
        "/v1/clusters/a": ClusterOut.of(cluster).model_dump(),
        "/v1/stats": StatsOut.of(store.state(), 0).model_dump(),
        "/v1/images/a/history": history.model_dump(),
    }
    with client(lambda request: httpx.Response(200, json=answers[request.url.path])) as api:
        assert asdict(api.image("a")) == answers["/v1/images/a"]
        assert asdict(api.cluster("a")) == answers["/v1/clusters/a"]
        assert asdict(api.stats()) == answers["/v1/stats"]
        assert list(map(asdict, api.history("a"))) == answers["/v1/images/a/history"]["changes"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFoundError),
        (410, DeletedError),
        (409, MovedError),
        (400, BadRequestError),
        (422, BadRequestError),
        (503, ServiceUnavailableError),
        (429, ServiceUnavailableError),
        (500, NeardupClientError),
        (401, NeardupClientError),
    ],
)
def test_each_status_has_its_error_with_the_reason(status: int, kind: type[NeardupClientError]) -> None:
    with (
        client(lambda _: httpx.Response(status, json={"detail": "because"})) as api,
        pytest.raises(kind, match="because") as caught,
    ):
        api.image("a")
    assert type(caught.value) is kind
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("word", "kind"),
    [("moved", MovedError), ("", MovedError), ("conflict", ConflictError), ("mismatch", NeardupClientError)],
)
def test_a_conflict_is_told_by_its_word(word: str, kind: type[NeardupClientError]) -> None:
    body = {"detail": "because", "error": word} if word else {"detail": "because"}
    with client(lambda _: httpx.Response(409, json=body)) as api, pytest.raises(kind, match="because") as caught:
        api.override("undo", undoes=1)
    assert type(caught.value) is kind


def test_a_cluster_that_moved_says_where() -> None:
    body = {"detail": "moved", "head": "b"}
    with client(lambda _: httpx.Response(409, json=body)) as api, pytest.raises(MovedError) as caught:
        api.members_page("a", page_token="t")
    assert caught.value.head == "b"


def test_a_deleted_image_says_when() -> None:
    body = {"detail": "gone", "deleted_at": "2026-01-02T03:04:05.000Z"}
    with client(lambda _: httpx.Response(410, json=body)) as api, pytest.raises(DeletedError) as caught:
        api.image("a")
    assert caught.value.deleted_at == body["deleted_at"]
    with client(lambda _: httpx.Response(410, text="gone")) as api, pytest.raises(DeletedError, match="gone") as caught:
        api.image("a")
    assert caught.value.deleted_at == ""


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (httpx.Response(500, text="<b>broken</b>"), "broken"),
        (httpx.Response(500, text=""), "Internal Server Error"),
        (httpx.Response(422, json={"detail": [{"loc": "limit"}]}), "limit"),
        (httpx.Response(500, json=["odd"]), "odd"),
        (httpx.Response(200, text="a page of a proxy"), "in another form"),
        (httpx.Response(200, json={"images": 1}), "clusters"),
        (httpx.Response(200, json=["odd"]), "in another form"),
    ],
)
def test_an_answer_of_another_form_is_told(response: httpx.Response, said: str) -> None:
    with client(lambda _: response) as api, pytest.raises(NeardupClientError, match=said):
        api.stats()


def test_nobody_there(waits: list[float]) -> None:
    refused = [httpx.ConnectError("refused")] * 3
    with (
        client(Script(refused), retry=RetryPolicy(retries=2)) as api,
        pytest.raises(ServiceUnavailableError, match=r"http://api\.test: refused") as caught,
    ):
        api.stats()
    assert caught.value.status is None
    assert waits == [0.2, 0.4]


@pytest.mark.parametrize("first", [*(httpx.Response(status) for status in (429, 502, 503, 504)), httpx.ReadTimeout("")])
def test_a_call_is_made_again(first: httpx.Response | Exception, waits: list[float]) -> None:
    with client(Script([first, httpx.Response(200, json=STATS)]), retry=RetryPolicy()) as api:
        assert api.stats().position.checksum == 7
    assert waits == [0.2]


def test_the_service_says_how_long_to_wait(waits: list[float]) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "3"})
    with client(Script([busy, httpx.Response(200, json=STATS)]), retry=RetryPolicy()) as api:
        assert api.stats().images == 1
    assert waits == [3.0]


def test_too_long_a_wait_is_left_to_the_caller(waits: list[float]) -> None:
    busy = httpx.Response(429, headers={"Retry-After": "600"})
    with client(Script([busy]), retry=RetryPolicy()) as api, pytest.raises(ServiceUnavailableError) as caught:
        api.stats()
    assert caught.value.retry_after_s == 600
    assert waits == []


def test_a_refusal_is_not_repeated(waits: list[float]) -> None:
    with client(Script([httpx.Response(404)]), retry=RetryPolicy()) as api, pytest.raises(NotFoundError):
        api.cluster("h")
    assert waits == []


@pytest.mark.parametrize("url", ["here", "localhost:18080", "ftp://host"])
def test_a_url_that_is_none(url: str, waits: list[float]) -> None:
    with ApiClient(url) as api, pytest.raises(NeardupClientError, match="no address") as caught:
        api.stats()
    assert not isinstance(caught.value, ServiceUnavailableError)
    assert waits == []


@pytest.mark.parametrize("own", [True, False])
def test_only_its_own_connection_is_closed(own: bool) -> None:
    http = httpx.Client()
    api = ApiClient("http://api.test", http=None if own else http)
    api.close()
    assert api._http.is_closed is own
    http.close()


def test_an_image_is_forgotten() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.raw_path.decode()))
        return httpx.Response(202, json={"image_id": "a/b", "request": "r", "position": 7})

    with client(answer) as api:
        assert api.forget("a/b", reason="takedown") == 7
        assert api.forget("a", refuse_return=True, author="ann") == 7
    assert asked == [
        ("DELETE", "/v1/images/a%2Fb?forget=true&author=&reason=takedown"),
        ("DELETE", "/v1/images/a?forget=true&author=ann&reason=&refuse_return=true"),
    ]
