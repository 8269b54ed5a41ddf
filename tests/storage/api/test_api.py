"""The HTTP API: what it answers, how it pages, which ids it takes, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Counter

from core.errors import UnavailableError
from core.types import Cause, ImageId, Move, Outcome
from storage.api.app import create_app
from storage.api.paths import whole_id_path
from storage.api.schemas import iso
from storage.errors import CorruptedError
from storage.interfaces import StoreView
from storage.memory import MemoryStore
from storage.records import ImageRecord
from storage.testing.decisions import A, B, C, D, decided, deletes, founds, ignored, joins, put
from storage.testing.model import NAMES
from tests.support.store_wrappers import DelegatingStore

MAX_PAGE = 50


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def client(store: MemoryStore) -> Iterator[TestClient]:
    registry = CollectorRegistry()
    Counter("neardup_test_calls", "Calls.", registry=registry).inc(3)
    with TestClient(create_app(store, MAX_PAGE, registry)) as client:
        yield client


def test_an_image(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, A), decided(1, B, Move(B, None, A, Cause.MATCHED, 0.9300000071525574, A)))
    assert client.get("/v1/images/b").json() == {
        "image_id": "b",
        "head": "a",
        "score": 0.93,
        "matched": "a",
        "cause": "matched",
        "place": 1,
        "decided_at": "1970-01-01T00:00:00.031Z",
        "version": 1,
        "versions": {"model": "m1", "index": "i1"},
        "truncated": False,
    }
    alone = client.get("/v1/images/a").json()
    assert (alone["head"], alone["score"], alone["matched"], alone["cause"]) == ("a", None, None, "founded")


class Quick(DelegatingStore):
    """Reads one image at once, and counts the snapshots."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.snapshots = 0

    def snapshot(self) -> AbstractContextManager[StoreView]:
        self.snapshots += 1
        return super().snapshot()

    def image_at_once(self, image_id: ImageId) -> ImageRecord | None:
        return self.inner.image(image_id)


def test_a_store_that_reads_at_once_gives_the_same_answers_about_an_image(
    client: TestClient, store: MemoryStore
) -> None:
    put(store, founds(0, A), founds(1, B), deletes(2, B, B))
    quick = Quick(store)
    beside = TestClient(create_app(quick, MAX_PAGE, CollectorRegistry()))
    for image_id, status, snapshots in (("a", 200, 0), ("b", 410, 1), ("never", 404, 2), ("%ff", 400, 2)):
        one, other = (each.get(f"/v1/images/{image_id}") for each in (client, beside))
        assert one.status_code == status
        assert (other.status_code, other.content) == (one.status_code, one.content)
        assert quick.snapshots == snapshots


def test_the_history_of_an_image(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, A), founds(1, B))
    put(store, decided(2, C, Move(C, None, A, Cause.MATCHED, 0.93, A), Move(B, B, A, Cause.ADOPTED, 0.75, C)))
    answer = client.get("/v1/images/b/history").json()
    assert (answer["image_id"], answer["next_page_token"]) == ("b", None)
    assert [(each["history_number"], each["old_head"], each["head"], each["cause"]) for each in answer["changes"]] == [
        (2, None, "b", "founded"),
        (4, "b", "a", "adopted"),
    ]
    assert answer["changes"][1] == {
        "history_number": 4,
        "offset": 2,
        "version": 1,
        "place": 1,
        "head": "a",
        "old_head": "b",
        "cause": "adopted",
        "score": 0.75,
        "matched": "c",
        "decided_at": answer["changes"][1]["decided_at"],
        "versions": {"model": "m1", "index": "i1"},
        "truncated": False,
        "override": None,
        "trigger": "stream",
    }
    first = client.get("/v1/images/b/history", params={"limit": 1}).json()
    rest = client.get("/v1/images/b/history", params={"page_token": first["next_page_token"]}).json()
    assert first["changes"] + rest["changes"] == answer["changes"]
    assert client.get("/v1/images/nobody/history").status_code == 404
    assert client.get("/v1/images/b/history", params={"page_token": "x"}).status_code == 400


def test_an_image_whose_changes_are_not_kept_has_none(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, A), founds(1, B), deletes(2, B, B), founds(3, C))
    store.set_published(4)
    store.sweep_history(4, 10)
    for known in "ab":
        answer = client.get(f"/v1/images/{known}/history").json()
        assert answer == {"image_id": known, "changes": [], "next_page_token": None, "history_first": 4}
    assert [each["history_number"] for each in client.get("/v1/images/c/history").json()["changes"]] == [4]
    assert client.get("/v1/images/nobody/history").status_code == 404
    assert client.get("/v1/stats").json()["history_first"] == 4


def test_a_deleted_image_keeps_its_history(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, A), deletes(1, A, A))
    changes = client.get("/v1/images/a/history").json()["changes"]
    assert [(each["head"], each["cause"]) for each in changes] == [("a", "founded"), ("", "deleted")]


def test_a_deleted_image_is_gone(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, A), joins(1, B, A), deletes(2, A, A), deletes(3, C, version=7))
    for path in ("/v1/images/a", "/v1/images/a/similar", "/v1/images/c"):
        answer = client.get(path)
        assert answer.status_code == 410
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert (body["error"], body["status"]) == ("deleted-image", 410)
        assert body["deleted_at"] == iso(43 if path.endswith("c") else 42)
        assert body["deleted_at"] in body["detail"]
    assert client.get("/v1/clusters/a").json()["head_deleted"] is True
    assert client.get("/v1/clusters/a/members").json()["members"] == ["b"]
    assert client.get("/v1/images/b").json()["head"] == "a"
    stats = client.get("/v1/stats").json()
    assert (stats["images"], stats["clusters"], stats["deleted"], stats["replayed"]) == (1, 1, 1, 0)


def test_an_unknown_image(client: TestClient) -> None:
    for path in ("/v1/images/nobody", "/v1/images/nobody/similar", "/v1/images/nobody/history"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"] == "unknown-image"
        assert "'nobody'" in answer.json()["detail"]


def test_a_cluster(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, A), joins(1, B, A))
    assert client.get("/v1/clusters/a").json() == {
        "head": "a",
        "count": 2,
        "created_at": "1970-01-01T00:00:00.030Z",
        "head_deleted": False,
    }
    assert client.get("/v1/clusters/a/members").json() == {"members": ["a", "b"], "next_page_token": None}
    for path in ("/v1/clusters/b", "/v1/clusters/b/members"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "unknown-cluster")


@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("limit", [1, 3, 7, 9, MAX_PAGE])
@pytest.mark.parametrize("path", ["/v1/clusters/a/members", "/v1/images/m3/similar"])
def test_pages_make_the_same_whole(client: TestClient, store: MemoryStore, path: str, limit: int, order: str) -> None:
    others = [ImageId(f"m{number}") for number in range(20)]
    put(store, founds(0, A), *[joins(1 + n, each, A) for n, each in enumerate(others)])
    seen, token = list[str](), None
    while True:
        query: dict[str, str] = {"limit": str(limit), "order": order} | ({"page_token": token} if token else {})
        page = client.get(path, params=query).json()
        assert len(page["members"]) <= limit
        if "similar" in path:
            assert (page["image_id"], page["head"], page["count"]) == ("m3", "a", 21)
        seen += page["members"]
        token = page["next_page_token"]
        if token is None:
            break
    whole = ["a", *others]
    assert seen == (whole if order == "oldest" else whole[::-1])


def test_a_listing_whose_cluster_changed_between_pages(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, A), founds(1, B), joins(2, C, B), joins(3, D, B))
    one = {"limit": 1}
    similar, members = (
        client.get(path, params=one).json() for path in ("/v1/images/c/similar", "/v1/clusters/b/members")
    )
    put(store, joins(4, C, A, old=B, version=2), joins(5, D, A, old=B, version=2))
    put(
        store,
        decided(
            6,
            ImageId("e"),
            Move(ImageId("e"), None, A, Cause.MATCHED, 0.9, A),
            Move(B, B, A, Cause.ADOPTED, 0.9, ImageId("e")),
        ),
    )
    for path, page in (("/v1/images/c/similar", similar), ("/v1/clusters/b/members", members)):
        answer = client.get(path, params={**one, "page_token": page["next_page_token"]})
        assert (answer.status_code, answer.json()["error"], answer.json()["head"]) == (409, "moved", "a")
        assert client.get(path, params={"page_token": "x", "order": "last"}).status_code == 400
    assert client.get("/v1/clusters/b/members").status_code == 404
    assert client.get("/v1/clusters/b/members", params={"page_token": "x"}).status_code == 400


def test_an_id_that_is_no_unicode_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/images:lookup", content=rb'{"image_ids": ["a", "\ud800"]}')
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")


def test_heads_of_many_images(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, A), joins(1, B, A), founds(2, C), deletes(3, C, C))
    answer = client.post("/v1/images:lookup", json={"image_ids": ["b", "nobody", "a", "b", "c"]})
    assert answer.json() == {
        "heads": {"a": "a", "b": "a"},
        "deleted": [{"image_id": "c", "deleted_at": iso(43)}],
        "unknown": ["nobody"],
        "offset": 3,
        "revision": 0,
    }
    for body in (
        {"image_ids": []},
        {"image_ids": ["a"] * 1025},
        {"image_ids": "a"},
        {},
        {"image_ids": ["a"], "more": 1},
    ):
        refused = client.post("/v1/images:lookup", json=body)
        assert (refused.status_code, refused.json()["error"]) == (400, "bad-input")


@pytest.mark.parametrize("limit", ["0", "-1", str(MAX_PAGE + 1), "many", "1.5", ""])
def test_bad_limits(client: TestClient, store: MemoryStore, limit: str) -> None:
    put(store, founds(0, A))
    answer = client.get("/v1/clusters/a/members", params={"limit": limit})
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert answer.json()["detail"].startswith("limit: ")


def test_bad_tokens(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, A), joins(1, B, A), founds(2, C), joins(3, D, C))
    other = client.get("/v1/clusters/c/members", params={"limit": 1}).json()["next_page_token"]
    for token in ("x", "AAAA", "ä", other):
        answer = client.get("/v1/clusters/a/members", params={"page_token": token})
        assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
        assert "page token" in answer.json()["detail"]
    assert client.get("/v1/clusters/a/members", params={"page_token": "x" * 201}).status_code == 400


ODD = [
    *NAMES,
    "a/similar",
    "a/history",
    "a/members",
    "/",
    "//",
    "/similar",
    "similar/",
    "a?b#c",
    "a+b",
    "%",
    "a/b/c",
    " ",
    "%41",
]


@pytest.mark.parametrize("text", ODD)
def test_any_id_can_be_asked_for(client: TestClient, store: MemoryStore, text: str) -> None:
    image, member = ImageId(text), ImageId("its member")
    put(store, founds(0, image), joins(1, member, image), founds(2, ImageId("else")))
    escaped = quote(text, safe="")
    if text == "..":  # clients take the two dots for the folder above, unless they are escaped
        escaped = "%2E%2E"
    assert client.get(f"/v1/images/{escaped}").json()["image_id"] == text
    assert client.get(f"/v1/images/{escaped}/similar").json()["members"] == [text, member]
    assert client.get(f"/v1/clusters/{escaped}").json()["count"] == 2
    assert client.get(f"/v1/clusters/{escaped}/members").json()["members"] == [text, member]


def test_plain_slashes_are_taken_too(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, ImageId("shop/42/front.jpg")))
    assert client.get("/v1/images/shop/42/front.jpg").json()["image_id"] == "shop/42/front.jpg"
    assert client.get("/v1/images/shop/42/front.jpg/similar").json()["members"] == ["shop/42/front.jpg"]


PATHS = ("images/{}", "images/{}/similar", "images/{}/history", "clusters/{}", "clusters/{}/members")


@pytest.mark.parametrize("escaped", ["%FF", "a%C3"])
def test_ids_are_utf8(client: TestClient, escaped: str) -> None:
    for path in PATHS:
        answer = client.get("/v1/" + path.format(escaped))
        assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")


@pytest.mark.parametrize("escaped", ["x" * 257, quote("ä" * 129)])
def test_what_is_too_long_for_an_id_is_unknown(client: TestClient, escaped: str) -> None:
    for path in PATHS:
        answer = client.get("/v1/" + path.format(escaped))
        assert (answer.status_code, answer.json()["error"].split("-")[0]) == (404, "unknown")


@pytest.mark.parametrize("path", ["/v1/images/", "/v1/clusters/", "/v1/images", "/v1/else", "/"])
def test_other_paths(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/v1/images/a", "/v1/images/a"),
        (b"/v1/images/a/similar", "/v1/images/a/similar"),
        (b"/v1/images/a%2Fsimilar", "/v1/images/a%2Fsimilar"),
        (b"/v1/images/a/b", "/v1/images/a%2Fb"),
        (b"/v1/images/similar", "/v1/images/similar"),
        (b"/v1/images//similar", "/v1/images/%2Fsimilar"),
        (b"/v1/images/a/members", "/v1/images/a%2Fmembers"),
        (b"/v1/clusters/a/members", "/v1/clusters/a/members"),
        (b"/v1/clusters/%252F", "/v1/clusters/%252F"),
        (b"/v1/stats", "decoded"),
    ],
)
def test_paths_are_read_as_they_came(raw: bytes, path: str) -> None:
    assert whole_id_path(raw, "decoded") == path


def test_stats(client: TestClient, store: MemoryStore) -> None:
    put(store, founds(0, A), joins(1, B, A), ignored(2, A, Outcome.DUPLICATE))
    store.set_published(1)
    assert client.get("/v1/stats").json() == {
        "images": 2,
        "clusters": 1,
        "duplicates": 1,
        "superseded": 0,
        "deleted": 0,
        "replayed": 0,
        "history_number": 2,
        "history_first": 1,
        "published": 1,
        "revision": 0,
        "position": {"log_id": "topic-one", "offset": 2, "checksum": 1002, "base": 0},
    }


def test_health_and_metrics(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    metrics = client.get("/metrics")
    assert "neardup_test_calls_total 3.0" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain")


class Broken(DelegatingStore):
    """A store that cannot be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__(MemoryStore())
        self._error = error

    def snapshot(self) -> AbstractContextManager[StoreView]:
        raise self._error


@pytest.mark.parametrize("error", [UnavailableError("it is being reopened"), CorruptedError("a block is damaged")])
def test_a_store_that_cannot_be_read_is_no_fault_of_the_caller(error: Exception) -> None:
    client = TestClient(create_app(Broken(error), MAX_PAGE, CollectorRegistry()))
    for path in ("/v1/images/a", "/v1/images/a/similar", "/v1/clusters/a", "/v1/stats", "/readyz"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert str(error)[:20] in answer.json()["detail"]
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_007, "2023-11-14T22:13:20.007Z"),
        (-5, "1970-01-01T00:00:00.000Z"),
        (2**63 - 1, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times(time_ms: int, text: str) -> None:
    assert iso(time_ms) == text
