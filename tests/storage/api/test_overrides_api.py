"""Overrides over HTTP: what is said and listed, who may, and how each problem is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.access import Access, Keys, Right
from core.errors import MismatchError
from core.overrides import OverrideKind, OverrideMove, OverrideOutcome, OverrideRequest
from storage.api.app import create_app
from storage.errors import DiskFullError
from storage.limits import MAX_LISTED_MOVES
from storage.testing.decisions import A, B, C, founds, joins, put
from tests.support.said_overrides import SaidOverrides

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
WRITE = {"Authorization": "Bearer write-key"}
FORBID: dict[str, Any] = {"kind": "forbid", "images": ["b"], "target": "a", "author": "ann", "reason": "no cat"}


def client_of(store: SaidOverrides, max_page: int = 10) -> TestClient:
    return TestClient(create_app(store, max_page, CollectorRegistry(), KEYS), raise_server_exceptions=False)


@pytest.fixture
def store() -> SaidOverrides:
    store = SaidOverrides()
    put(store, founds(0, A), joins(1, B, A), founds(2, C))
    return store


@pytest.fixture
def client(store: SaidOverrides) -> TestClient:
    return client_of(store)


def say(client: TestClient, **said: Any) -> Any:
    return client.post("/v1/overrides", json=said, headers=WRITE)


def test_an_override_is_said_with_its_moves(client: TestClient, store: SaidOverrides) -> None:
    store.moves = (OverrideMove(B, A, B),)
    answer = say(client, **FORBID)
    assert answer.status_code == 201
    body = answer.json()
    at = body["override"].pop("at")
    assert body == {
        "override": {
            "number": 1,
            "kind": "forbid",
            "images": ["b"],
            "target": "a",
            "undoes": None,
            "author": "ann",
            "reason": "no cat",
            "applied_after": 2,
            "rollback": None,
        },
        "moves": [{"image_id": "b", "old_head": "a", "new_head": "b"}],
        "moved": 1,
        "created": True,
    }
    assert at > "2024-01-01T00:00:00.000Z"
    [listed] = store.said
    assert listed.override.at_ms > 1_700_000_000_000


def test_what_stands_and_what_is_only_tried_is_200(client: TestClient, store: SaidOverrides) -> None:
    store.moves = (OverrideMove(B, A, B),)
    tried = say(client, **FORBID, dry_run=True)
    assert (tried.status_code, tried.json()["created"], tried.json()["moved"]) == (200, False, 1)
    assert store.said == []
    assert say(client, **FORBID).status_code == 201
    again = say(client, **FORBID)
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert len(store.said) == 1


def test_many_moves_are_counted(client: TestClient, store: SaidOverrides) -> None:
    store.moves = (OverrideMove(B, A, B),) * (MAX_LISTED_MOVES + 5)
    body = say(client, **FORBID).json()
    assert (len(body["moves"]), body["moved"]) == (MAX_LISTED_MOVES, MAX_LISTED_MOVES + 5)


def test_an_undo_by_post_and_by_delete(client: TestClient, store: SaidOverrides) -> None:
    say(client, **FORBID)
    say(client, kind="merge", images=["c"], target="a")
    first = say(client, kind="undo", undoes=1, author="bob")
    assert (first.status_code, first.json()["override"]["undoes"]) == (201, 1)
    second = client.delete("/v1/overrides/2?author=bob&reason=a%20slip", headers=WRITE)
    assert (second.status_code, second.json()["created"]) == (200, True)
    undo = store.said[3].override
    assert (undo.kind, undo.undoes, undo.author, undo.reason) == (OverrideKind.UNDO, 2, "bob", "a slip")
    listed = client.get("/v1/overrides").json()["overrides"]
    assert [(each["number"], each["kind"], each["undone_by"]) for each in listed] == [
        (1, "forbid", 3),
        (2, "merge", 4),
        (3, "undo", None),
        (4, "undo", None),
    ]


def test_overrides_are_listed_page_by_page(store: SaidOverrides) -> None:
    client = client_of(store, max_page=2)
    for target in ("a", "b", "c"):
        say(client, kind="merge", images=["x"], target=target)
    first = client.get("/v1/overrides").json()
    assert ([each["number"] for each in first["overrides"]], first["next_after"]) == ([1, 2], 2)
    rest = client.get("/v1/overrides?after=2&limit=2").json()
    assert ([each["number"] for each in rest["overrides"]], rest["next_after"]) == ([3], None)
    of_b = client.get("/v1/overrides?image_id=b").json()["overrides"]
    assert [each["target"] for each in of_b] == ["b"]
    assert client.get("/v1/overrides?limit=3").status_code == 400


def test_one_override_is_shown(client: TestClient) -> None:
    say(client, **FORBID)
    shown = client.get("/v1/overrides/1").json()
    assert (shown["number"], shown["undone_by"], shown["waits"]) == (1, None, False)
    assert shown == client.get("/v1/overrides").json()["overrides"][0]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_override_that_was_never_said_is_404(client: TestClient, store: SaidOverrides, method: str) -> None:
    answer = client.request(method, "/v1/overrides/7", headers=WRITE)
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown-override")
    assert store.said == []


def test_a_contradiction_has_a_word_of_its_own(client: TestClient) -> None:
    say(client, **FORBID)
    answer = say(client, **{**FORBID, "kind": "pin"})
    assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
    assert answer.json()["detail"] == "override 1 says the contrary: undo it first"


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (MismatchError("the job that wrote last does not know the kinds override"), 409, "mismatch"),
        (DiskFullError("no space"), 503, "storage"),
    ],
)
def test_what_cannot_be_written_is_said(error: Exception, status: int, word: str) -> None:
    class Failing(SaidOverrides):
        def override(self, request: OverrideRequest, at_ms: int, *, dry_run: bool = False) -> OverrideOutcome:
            raise error

    answer = say(client_of(Failing()), **FORBID)
    assert (answer.status_code, answer.json()["error"], answer.json()["detail"]) == (status, word, str(error))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "hide"},
        {"target": "nobody"},
        {"target": ""},
        {"images": ["b"] * 1_001},
        {"kind": "split", "images": ["b"] * 100_001},
        {"images": ["x" * 257]},
        {"images": "b"},
        {"author": "x" * 1_025},
        {"reason": "é" * 513},
        {"undoes": 0},
        {"undoes": 2**63},
        {"more": 1},
    ],
)
def test_what_is_malformed_is_refused(client: TestClient, store: SaidOverrides, change: dict[str, Any]) -> None:
    answer = say(client, **{**FORBID, **change})
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert store.said == []


def test_a_split_names_a_hundred_thousand_images(client: TestClient, store: SaidOverrides) -> None:
    images = [f"{number:064}" for number in range(100_000)]
    answer = say(client, **{**FORBID, "kind": "split", "images": images})
    assert answer.status_code == 201
    assert answer.json()["override"]["images"] == images == list(store.said[0].override.images)


@pytest.mark.parametrize("name", ["target", "author", "reason"])
def test_what_has_no_utf8_form_is_refused(client: TestClient, store: SaidOverrides, name: str) -> None:
    body = json.dumps({**FORBID, name: "\ud800"})
    answer = client.post("/v1/overrides", content=body, headers=WRITE)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert store.said == []


@pytest.mark.parametrize(
    "path", ["0", "x", str(2**63), "?after=-1", "?limit=0", "?image_id=", f"?image_id={'x' * 257}"]
)
def test_a_question_that_is_malformed_is_refused(client: TestClient, path: str) -> None:
    answer = client.get(f"/v1/overrides{path if path.startswith('?') else f'/{path}'}")
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")


@pytest.mark.parametrize(("key", "status"), [("", 401), ("wrong", 401), ("read-key", 403), ("parts-token", 403)])
def test_saying_and_undoing_need_the_write_key(client: TestClient, store: SaidOverrides, key: str, status: int) -> None:
    say(client, **FORBID)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    assert client.post("/v1/overrides", json=FORBID, headers=headers).status_code == status
    assert client.delete("/v1/overrides/1", headers=headers).status_code == status
    assert client.get("/v1/overrides").status_code == 200
    assert len(store.said) == 1
