"""Bulk moves over HTTP: how far each is, who may steer them, and how each problem is answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from core.access import Access, Keys, Right
from core.overrides import JOB_KINDS
from storage.api.app import create_app
from storage.bulk.operations import OperationState
from storage.errors import DiskFullError
from storage.interfaces import ClusterStore
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.decisions import A, B, C, founds, joins, put
from tests.support.known_operations import DONE, FORGETTING, MOVING, PLANNING, KnownOperations, filled_operations

KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
WRITE = {"Authorization": "Bearer write-key"}
AT = "2025-11-28T12:00:00.123Z"

STEERED = ["2:pause", "2:resume", "4:cancel"]


def client_of(store: ClusterStore, max_page: int = 10) -> TestClient:
    return TestClient(create_app(store, max_page, CollectorRegistry(), KEYS), raise_server_exceptions=False)


@pytest.fixture
def store() -> KnownOperations:
    return filled_operations()


@pytest.fixture
def client(store: KnownOperations) -> TestClient:
    return client_of(store)


def test_how_far_each_is(client: TestClient) -> None:
    answer = client.get("/v1/operations")
    assert answer.status_code == 200
    assert answer.json() == {
        "operations": [
            {
                "number": 1,
                "kind": "pin",
                "override": 1,
                "position": None,
                "state": "done",
                "images": 20_000,
                "moved": 20_000,
                "history_first": 5,
                "started": AT,
                "ended": "2025-11-28T12:00:04.123Z",
            },
            {
                "number": 2,
                "kind": "merge",
                "override": 2,
                "position": None,
                "state": "moving",
                "images": 1_100_000,
                "moved": 412_000,
                "history_first": 20_005,
                "started": AT,
                "ended": None,
            },
            {
                "number": 4,
                "kind": None,
                "override": 4,
                "position": None,
                "state": "planning",
                "images": 30_000,
                "moved": 0,
                "history_first": None,
                "started": AT,
                "ended": None,
            },
        ],
        "next_after": None,
    }
    for each in answer.json()["operations"]:
        assert client.get(f"/v1/operations/{each['number']}").json() == each


def test_a_forget_names_its_record(store: KnownOperations, client: TestClient) -> None:
    store.moves[5] = FORGETTING
    told = client.get("/v1/operations/5").json()
    assert [told[each] for each in ("kind", "override", "position", "state")] == ["forget", None, 204, "planning"]


def test_they_are_listed_page_by_page(store: KnownOperations) -> None:
    client = client_of(store, max_page=2)
    first = client.get("/v1/operations").json()
    assert ([each["number"] for each in first["operations"]], first["next_after"]) == ([1, 2], 2)
    rest = client.get("/v1/operations?after=2&limit=2").json()
    assert ([each["number"] for each in rest["operations"]], rest["next_after"]) == ([4], None)
    for query in ("limit=3", "limit=0", "after=-1", f"after={2**63}"):
        assert client.get(f"/v1/operations?{query}").status_code == 400


def test_a_move_rests_and_goes_on(client: TestClient, store: KnownOperations) -> None:
    for word, state in (("pause", "paused"), ("pause", "paused"), ("resume", "moving"), ("resume", "moving")):
        answer = client.post(f"/v1/operations/2:{word}", headers=WRITE)
        assert (answer.status_code, answer.json()["state"]) == (200, state)
        assert client.get("/v1/operations/2").json() == answer.json()
    assert store.moves[2] == MOVING


def test_a_plan_is_cancelled(client: TestClient, store: KnownOperations) -> None:
    answer = client.post("/v1/operations/4:cancel", headers=WRITE)
    assert (answer.status_code, answer.json()["state"]) == (202, "planning")
    assert store.moves == {1: DONE, 2: MOVING}
    assert client.get("/v1/operations/4").status_code == 404


@pytest.mark.parametrize(
    ("steered", "problem"),
    [
        ("1:pause", "no bulk move 1 is under way"),
        ("4:resume", "no bulk move 4 is under way"),
        ("2:cancel", "no bulk move 2 is being planned"),
    ],
)
def test_what_cannot_be_done_is_400(client: TestClient, store: KnownOperations, steered: str, problem: str) -> None:
    answer = client.post(f"/v1/operations/{steered}", headers=WRITE)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad-input")
    assert problem in answer.json()["detail"]
    assert store.moves == {1: DONE, 2: MOVING, 4: PLANNING}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "3"), *(("POST", f"3:{w}") for w in ("pause", "resume", "cancel"))]
)
def test_what_is_no_bulk_move_is_404(client: TestClient, method: str, path: str) -> None:
    """There is an override of this number."""
    answer = client.request(method, f"/v1/operations/{path}", headers=WRITE)
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown-operation")


@pytest.mark.parametrize("steered", STEERED)
def test_only_the_write_key_steers(client: TestClient, store: KnownOperations, steered: str) -> None:
    assert client.post(f"/v1/operations/{steered}").status_code == 401
    denied = client.post(f"/v1/operations/{steered}", headers={"Authorization": "Bearer read-key"})
    assert (denied.status_code, denied.json()["error"]) == (403, "denied")
    assert store.moves == {1: DONE, 2: MOVING, 4: PLANNING}
    assert client.post(f"/v1/operations/{steered}", headers=WRITE).is_success


def test_reading_from_elsewhere_needs_a_key(store: KnownOperations) -> None:
    guarded = TestClient(
        create_app(store, 10, CollectorRegistry(), Access(Keys("parts-token", "read-key", "write-key"), frozenset()))
    )
    for path in ("/v1/operations", "/v1/operations/1"):
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, headers={"Authorization": "Bearer read-key"}).status_code == 200


def test_a_full_disk_is_503() -> None:
    class Full(KnownOperations):
        def pause(self, number: int, *, rests: bool) -> None:
            raise DiskFullError("no space")

    store = Full()
    store.moves = {2: MOVING}
    answer = client_of(store).post("/v1/operations/2:pause", headers=WRITE)
    assert (answer.status_code, answer.json()["error"]) == (503, "storage")


def test_a_merge_that_became_one_over_a_real_store(tmp_path: Path) -> None:
    store = RocksStore(tmp_path, options=RocksOptions(sync=False), moves_at_once=0)
    put(store, founds(0, A), joins(1, B, A), founds(2, C), kinds=JOB_KINDS)
    try:
        client = client_of(store)
        said = client.post("/v1/overrides", json={"kind": "merge", "images": ["a"], "target": "c"}, headers=WRITE)
        number = said.json()["override"]["number"]
        assert client.get("/v1/images/b").json()["head"] == "c"
        assert client.post(f"/v1/operations/{number}:pause", headers=WRITE).json()["state"] == "paused"
        assert not store.settle(10)
        assert client.post(f"/v1/operations/{number}:resume", headers=WRITE).json()["moved"] == 1
        while store.settle(10):
            pass
        assert client.get(f"/v1/operations/{number}").json()["state"] == OperationState.DONE
    finally:
        store.close()
