"""The route that explains an image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.errors import BusyError, UnavailableError
from core.traces import parse_trace
from core.types import ImageId
from storage.api.app import create_app
from storage.api.explaining import Explainer
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, deletes, founds, joins, put
from tests.support.explained import KnownAnswers

HARD = ImageId("a/b?c=%2Fexplain")


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), founds(2, HARD))
    return store


@pytest.fixture
def answers() -> KnownAnswers:
    return KnownAnswers()


def client_of(store: MemoryStore, explainer: Explainer | None) -> TestClient:
    return TestClient(create_app(store, 10, CollectorRegistry(), explainer=explainer))


@pytest.fixture
def client(store: MemoryStore, answers: KnownAnswers) -> Iterator[TestClient]:
    with client_of(store, answers) as client:
        yield client


def test_the_recorded_verdict_and_the_question_asked_again(client: TestClient, answers: KnownAnswers) -> None:
    answer = client.get("/v1/images/b/explain").json()
    assert answers.asked == [("b", None)]
    assert answer["recorded"] == client.get("/v1/images/b").json()
    trace = parse_trace(json.dumps(answer["now"]["verdict"]).encode())
    assert (trace.image_id, trace.kind) == ("b", "question")
    assert answer["at_place"] == {
        "as_of": 1,
        "incomplete": True,
        "verdict": None,
        "problem": "the index cannot search for it",
    }
    assert answer["against"] is None


def test_against_another_image_whatever_its_id(client: TestClient, answers: KnownAnswers) -> None:
    path = f"/v1/images/{quote(HARD, safe='')}/explain"
    assert client.get(path, params={"against": "a"}).json()["against"]["apart"] == "below_accept"
    assert client.get("/v1/images/a/explain", params={"against": HARD}).json()["against"]["other_id"] == HARD
    assert answers.asked == [(HARD, "a"), ("a", HARD)]


def test_an_image_against_itself_is_refused(client: TestClient, answers: KnownAnswers) -> None:
    answer = client.get("/v1/images/a/explain", params={"against": "a"})
    assert answer.status_code == 400
    assert "against itself" in answer.json()["detail"]
    assert answers.asked == []


@pytest.mark.parametrize("path", ["/v1/images/x/explain", "/v1/images/a/explain?against=x"])
def test_an_image_without_a_verdict_is_unknown(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown-image")


@pytest.mark.parametrize("path", ["/v1/images/c/explain", "/v1/images/a/explain?against=c"])
def test_a_deleted_image_is_gone(client: TestClient, store: MemoryStore, path: str) -> None:
    put(store, founds(3, C), deletes(4, C, C))
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]) == (410, "deleted-image")


@pytest.mark.parametrize("error", [UnavailableError("the scorer is down"), BusyError("2 at once", 1.0)])
def test_a_server_that_does_not_answer_is_named(store: MemoryStore, error: Exception) -> None:
    class Failing(KnownAnswers):
        def explain(self, *args: object) -> None:  # type: ignore[override]
            raise error

    with client_of(store, Failing()) as client:
        answer = client.get("/v1/images/a/explain")
    assert answer.status_code == 503
    assert str(error) in answer.json()["detail"]


def test_a_server_without_the_others_says_so(store: MemoryStore) -> None:
    with client_of(store, None) as client:
        answer = client.get("/v1/images/a/explain")
    assert answer.status_code == 503
    assert "knows no search server" in answer.json()["detail"]
