"""Rollbacks over HTTP: what is asked, answered and listed, and who may."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.access import Access, Keys, Right
from storage.api.app import create_app
from storage.memory import MemoryStore
from tests.support.bad_hour import AT_10_30_MS, AT_11_30_MS, bad_hour_store

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
WRITE = {"Authorization": "Bearer write-key"}
ALL = {"model": None, "head": None, "cause": None}


@pytest.fixture
def store() -> MemoryStore:
    return bad_hour_store()


@pytest.fixture
def client(store: MemoryStore) -> TestClient:
    return TestClient(create_app(store, 10, CollectorRegistry(), KEYS), raise_server_exceptions=False)


def roll_back(client: TestClient, dry_run: bool = False, **rollback: Any) -> Any:
    said = {"kind": "rollback", "rollback": rollback, "author": "ann", "reason": "a bad model", "dry_run": dry_run}
    return client.post("/v1/overrides", json=said, headers=WRITE)


def heads(client: TestClient) -> list[str]:
    return [client.get(f"/v1/images/{each}").json()["head"] for each in "abcd"]


def test_images_go_back_and_an_undo_brings_them_again(client: TestClient) -> None:
    answer = roll_back(client, to="2025-11-28T10:30:00Z")
    assert answer.status_code == 201
    body = answer.json()
    at = body["override"].pop("at")
    assert at > "2025-01-01T00:00:00.000Z"
    point = {"position": 2, "override": None}
    assert body == {
        "override": {
            "number": 1,
            "kind": "rollback",
            "images": [],
            "target": None,
            "undoes": None,
            "author": "ann",
            "reason": "a bad model",
            "applied_after": 4,
            "rollback": {"to": point, "since": point, "where": ALL, "new": "decide", "of": None, "until": None},
        },
        "moves": [
            {"image_id": "c", "old_head": "a", "new_head": "c"},
            {"image_id": "d", "old_head": "a", "new_head": "d"},
        ],
        "moved": 2,
        "created": True,
    }
    assert heads(client) == ["a", "a", "c", "d"]
    assert client.get("/v1/images/c/history").json()["changes"][-1]["override"] == 1

    undo = client.delete("/v1/overrides/1", headers=WRITE).json()
    assert (undo["moved"], undo["override"]["rollback"]["of"]) == (2, 1)
    assert heads(client) == ["a", "a", "a", "a"]
    listed = client.get("/v1/overrides").json()["overrides"]
    assert [(each["kind"], each["undone_by"], each["rollback"]["of"]) for each in listed] == [
        ("rollback", 2, None),
        ("undo", None, 1),
    ]
    again = roll_back(client, to_change=7).json()["override"]["rollback"]
    assert again["to"] == {"position": 4, "override": 1}


@pytest.mark.parametrize(
    "to", ["2025-11-28T10:30:00Z", "2025-11-28T11:30:00+01:00", str(AT_10_30_MS), AT_10_30_MS, "20251128T103000Z"]
)
def test_a_time_has_many_forms(client: TestClient, to: str | int) -> None:
    answer = roll_back(client, dry_run=True, to=to)
    assert (answer.status_code, answer.json()["created"], answer.json()["moved"]) == (200, False, 2)
    assert answer.json()["override"]["rollback"]["to"]["position"] == 2
    assert heads(client) == ["a", "a", "a", "a"]


@pytest.mark.parametrize(
    ("asked", "moved"),
    [
        ({"to_change": 3}, 2),
        ({"to_change": 4}, 1),
        ({"to_change": 0}, 3),
        ({"to_change": 3, "new": "keep"}, 1),
        ({"to_change": 0, "where": {"model": "m1"}, "new": "keep"}, 0),
        ({"to_change": 3, "where": {"model": "m1"}}, 0),
        ({"to_change": 3, "where": {"head": "c"}}, 1),
        ({"to_change": 3, "where": {"model": "bad", "cause": "matched", "head": "c"}}, 1),
        ({"to_change": 3, "where": {"cause": "founded"}}, 0),
        ({"to_change": 3, "since": AT_11_30_MS}, 0),
        ({"to_change": 0, "since": "2025-11-28T10:30:00Z"}, 2),
    ],
)
def test_only_what_is_asked_for_moves(client: TestClient, asked: dict[str, Any], moved: int) -> None:
    assert roll_back(client, dry_run=True, **asked).json()["moved"] == moved


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"to": "2025-11-28T10:30:00Z", "to_change": 3},
        {"to": "2025-11-28T10:30:00"},
        {"to": "yesterday"},
        {"to": -1},
        {"to": True},
        {"to": 1.5},
        {"to": 2**63},
        {"to": str(2**63)},
        {"to_change": 6},
        {"to_change": -1},
        {"to_change": 2**63},
        {"to_change": 3, "since": "yesterday"},
        {"to_change": 3, "new": "drop"},
        {"to_change": 3, "where": {"cause": "hidden"}},
        {"to_change": 3, "where": {"head": ""}},
        {"to_change": 3, "where": {"head": "x" * 257}},
        {"to_change": 3, "where": {"model": "x" * 1_025}},
        {"to_change": 3, "where": {"since": "2025-11-28T10:30:00Z"}},
        {"to_change": 3, "more": 1},
    ],
)
def test_what_is_malformed_is_refused(client: TestClient, store: MemoryStore, asked: dict[str, Any]) -> None:
    before = store.state()
    answer = roll_back(client, **asked)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert store.state() == before


@pytest.mark.parametrize("name", ["model", "head"])
def test_what_has_no_utf8_form_is_refused(client: TestClient, store: MemoryStore, name: str) -> None:
    body = json.dumps({"kind": "rollback", "rollback": {"to_change": 3, "where": {name: "\ud800"}}})
    answer = client.post("/v1/overrides", content=body, headers=WRITE)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert store.state().overrides == 0


def test_a_rollback_names_no_images_and_nothing_else_goes_back(client: TestClient, store: MemoryStore) -> None:
    back = {"to_change": 3}
    for said in (
        {"kind": "rollback", "rollback": back, "images": ["c"], "target": "a"},
        {"kind": "pin", "rollback": back, "images": ["c"], "target": "a"},
        {"kind": "rollback"},
    ):
        answer = client.post("/v1/overrides", json=said, headers=WRITE)
        assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert store.state().overrides == 0


@pytest.mark.parametrize(("key", "status"), [("", 401), ("wrong", 401), ("read-key", 403), ("parts-token", 403)])
def test_a_rollback_needs_the_write_key_even_if_it_is_only_tried(
    client: TestClient, store: MemoryStore, key: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    for dry_run in (False, True):
        said = {"kind": "rollback", "rollback": {"to_change": 3}, "dry_run": dry_run}
        assert client.post("/v1/overrides", json=said, headers=headers).status_code == status
    assert store.state().overrides == 0
