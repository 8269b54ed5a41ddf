"""Deletes over HTTP: the record that they write, who may, and what is said when it cannot be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.access import Access, Keys, Right
from core.delete_requests import DeleteRequest
from core.errors import MismatchError, UnavailableError
from core.notifications import MAX_IMAGE_VERSION
from storage.api.app import create_app
from storage.memory import MemoryStore
from storage.testing.contract import A, founds, put
from storage.testing.model import NAMES

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
WRITE = {"Authorization": "Bearer write-key"}


@dataclass
class FakeOrder:
    """Remembers what was written, or refuses it."""

    requests: list[DeleteRequest] = field(default_factory=list)
    error: Exception | None = None

    def delete(self, requests: Sequence[DeleteRequest]) -> Sequence[int]:
        if self.error is not None:
            raise self.error
        self.requests += requests
        return range(len(self.requests) - len(requests), len(self.requests))


def client_of(order: FakeOrder | None, base: int = 0) -> TestClient:
    store = MemoryStore()
    put(store, founds(0, A))
    if base:
        store.renew("renewed", base)
    return TestClient(create_app(store, 10, CollectorRegistry(), KEYS, order), raise_server_exceptions=False)


def test_a_delete_is_written_and_answered_with_its_position() -> None:
    order = FakeOrder()
    client = client_of(order, base=1)
    first = client.delete("/v1/images/a", headers=WRITE)
    second = client.delete("/v1/images/a?version=7&author=ann&reason=takedown", headers=WRITE)
    assert (first.status_code, second.status_code) == (202, 202)
    assert [answer.json()["position"] for answer in (first, second)] == [1, 2]
    plain, full = order.requests
    assert (plain.image_id, plain.version, plain.author, plain.reason) == ("a", None, "", "")
    assert (full.image_id, full.version, full.author, full.reason) == ("a", 7, "ann", "takedown")
    assert first.json() == {"image_id": "a", "request": plain.request, "position": 1}
    assert plain.request != full.request
    assert plain.requested_at_ms > 1_700_000_000_000


def test_an_image_is_forgotten_and_refused_if_that_is_asked() -> None:
    order = FakeOrder()
    client = client_of(order)
    assert client.delete("/v1/images/a?forget=true&reason=takedown", headers=WRITE).status_code == 202
    assert client.delete("/v1/images/a?forget=true&refuse_return=true", headers=WRITE).status_code == 202
    plain, refused = order.requests
    assert (plain.forget, plain.version, plain.reason) == (True, None, "takedown")
    assert (refused.forget, refused.version) == (True, MAX_IMAGE_VERSION)


@pytest.mark.parametrize(
    "query", ["forget=true&version=3", "refuse_return=true", "refuse_return=true&forget=true&version=1"]
)
def test_what_cannot_be_forgotten_is_refused(query: str) -> None:
    order = FakeOrder()
    answer = client_of(order).delete(f"/v1/images/a?{query}", headers=WRITE)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert order.requests == []


@pytest.mark.parametrize("name", NAMES)
def test_any_id_is_taken_as_it_is(name: str) -> None:
    order = FakeOrder()
    escaped = "%2E%2E" if name == ".." else quote(name, safe="")
    assert client_of(order).delete(f"/v1/images/{escaped}", headers=WRITE).status_code == 202
    assert [request.image_id for request in order.requests] == [name]


@pytest.mark.parametrize(("key", "status"), [("", 401), ("wrong", 401), ("read-key", 403), ("parts-token", 403)])
def test_a_delete_needs_the_write_key(key: str, status: int) -> None:
    order = FakeOrder()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    assert client_of(order).delete("/v1/images/a", headers=headers).status_code == status
    assert order.requests == []


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (MismatchError("the job that wrote last does not know the kinds delete"), 409, "mismatch"),
        (UnavailableError("Kafka at x: no broker"), 503, "unavailable"),
    ],
)
def test_what_cannot_be_written_is_said(error: Exception, status: int, word: str) -> None:
    answer = client_of(FakeOrder(error=error)).delete("/v1/images/a", headers=WRITE)
    assert (answer.status_code, answer.json()["error"], answer.json()["detail"]) == (status, word, str(error))


def test_a_server_without_kafka_deletes_nothing() -> None:
    answer = client_of(None).delete("/v1/images/a", headers=WRITE)
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")


@pytest.mark.parametrize(
    "path", ["/v1/images/a?version=-1", f"/v1/images/a?author={'x' * 300}", f"/v1/images/{'x' * 257}"]
)
def test_what_is_malformed_is_refused(path: str) -> None:
    order = FakeOrder()
    answer = client_of(order).delete(path, headers=WRITE)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert order.requests == []
