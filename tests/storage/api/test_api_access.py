"""Who may read and write over HTTP, and that every error has one form."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.access import Access, Keys, Right
from storage.api.app import create_app
from storage.api.requests import MAX_BODY_BYTES, MAX_OVERRIDE_BYTES
from storage.interfaces import StoreView
from storage.memory import MemoryStore
from storage.testing.decisions import A, founds, put
from tests.support.store_wrappers import DelegatingStore

KEYS = Keys("parts-token", "read-key", "write-key")
READERS = ("read-key", "write-key", "parts-token")


class Faulty(DelegatingStore):
    """A store with a bug."""

    def snapshot(self) -> AbstractContextManager[StoreView]:
        raise ZeroDivisionError("a bug")


def client_of(access: Access) -> TestClient:
    store = MemoryStore()
    put(store, founds(0, A))
    return TestClient(create_app(store, 10, CollectorRegistry(), access), raise_server_exceptions=False)


@pytest.fixture
def guarded() -> TestClient:
    return client_of(Access(KEYS, frozenset()))


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_reading_from_elsewhere_needs_a_key(guarded: TestClient) -> None:
    for path in ("/v1/images/a", "/v1/stats", "/metrics", "/v1/nothing"):
        for headers in ({}, with_key("wrong")):
            answer = guarded.get(path, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (401, "no-key")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    for key in READERS:
        assert guarded.get("/v1/images/a", headers=with_key(key)).json()["head"] == "a"


def test_a_look_up_of_many_is_a_read(guarded: TestClient) -> None:
    asked = {"image_ids": ["a"]}
    assert guarded.post("/v1/images:lookup", json=asked).status_code == 401
    assert guarded.post("/v1/images:lookup", json=asked, headers=with_key("read-key")).json()["heads"] == {"a": "a"}


def test_health_and_the_description_are_open(guarded: TestClient) -> None:
    assert {guarded.get(path).status_code for path in ("/healthz", "/readyz", "/docs", "/openapi.json")} == {200}


@pytest.mark.parametrize("anyone", [frozenset[Right](), frozenset({Right.READ})])
def test_a_write_needs_the_write_key(anyone: frozenset[Right]) -> None:
    client = client_of(Access(KEYS, anyone))
    assert client.delete("/v1/images/a").status_code == 401
    refused = client.delete("/v1/images/a", headers=with_key("read-key"))
    assert (refused.status_code, refused.json()["error"]) == (403, "denied")
    # This server has no Kafka, which only who may write is told.
    assert client.delete("/v1/images/a", headers=with_key("write-key")).status_code == 503


FAULTS = [
    ("GET", "/v1/images/nobody", 404, "unknown-image"),
    ("GET", "/v1/clusters/a/members?limit=0", 400, "bad-input"),
    ("GET", "/v1/clusters/a/members?page_token=x", 400, "bad-input"),
    ("GET", "/v1/images/%FF", 400, "bad-input"),
    ("GET", "/v1/nothing", 404, "unknown-path"),
    ("POST", "/v1/stats", 405, "no-such-method"),
    ("GET", "/v1/stats", 500, "fault"),
]


@pytest.fixture
def faulty() -> TestClient:
    store = MemoryStore()
    put(store, founds(0, A))
    app = create_app(Faulty(store), 10, CollectorRegistry(), Access(KEYS, frozenset({Right.READ})))
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(("method", "path", "status", "word"), FAULTS)
def test_every_error_has_one_form(
    guarded: TestClient, faulty: TestClient, method: str, path: str, status: int, word: str
) -> None:
    client = faulty if status == 500 else guarded
    answer = client.request(method, path, headers=with_key("write-key"))
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert (answer.status_code, said["status"], said["error"]) == (status, status, word)
    assert said["type"] == f"urn:neardup:problem:{word}"
    assert set(said) == {"type", "title", "status", "error", "detail"}
    if status == 405:
        assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("announced", [str(MAX_BODY_BYTES + 1), "-1", "many"])
def test_a_large_body_is_refused(guarded: TestClient, announced: str) -> None:
    answer = guarded.post("/v1/stats", headers={**with_key("write-key"), "Content-Length": announced})
    assert (answer.status_code, answer.json()["error"]) == (413, "too-large")


def test_the_body_of_an_override_may_be_larger(guarded: TestClient) -> None:
    for announced, status in ((MAX_OVERRIDE_BYTES, 400), (MAX_OVERRIDE_BYTES + 1, 413)):
        headers = {**with_key("write-key"), "Content-Length": str(announced)}
        assert guarded.post("/v1/overrides", content=b"{}", headers=headers).status_code == status


def test_a_body_of_unknown_length_is_refused(guarded: TestClient) -> None:
    answer = guarded.post("/v1/images:lookup", content=iter([b"{}"]), headers=with_key("read-key"))
    assert (answer.status_code, answer.json()["error"]) == (411, "no-length")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/stats", "/v1/images/a", "/v1/images/nobody"])
def test_head_says_what_get_says_without_the_body(guarded: TestClient, path: str) -> None:
    asked, told = (guarded.request(method, path, headers=with_key("read-key")) for method in ("GET", "HEAD"))
    assert told.status_code == asked.status_code
    assert told.headers["content-type"] == asked.headers["content-type"]
    assert told.content == b""


def test_the_owner_of_a_key_is_the_author() -> None:
    keys = Keys("parts-token", "read-key", "write-key", {"moderation": "their-key"})
    store = MemoryStore()
    client = TestClient(create_app(store, 10, CollectorRegistry(), Access(keys, frozenset())))
    for key, target, author in (("their-key", "b", "moderation"), ("write-key", "c", "ann")):
        said = {"kind": "forbid", "images": ["a"], "target": target, "author": "ann"}
        answer = client.post("/v1/overrides", json=said, headers=with_key(key))
        assert (answer.status_code, answer.json()["override"]["author"]) == (201, author)
    undone = client.delete("/v1/overrides/1?author=ann", headers=with_key("their-key"))
    assert undone.json()["override"]["author"] == "moderation"
    assert client.post("/v1/overrides", json=said, headers=with_key("read-key")).status_code == 403
