"""Bulk moves over gRPC: what crosses the wire comes out as it went in, within limits, for those who may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from core.access import Access, Credentials, Keys, Right
from core.errors import DeniedError, RefusedError
from core.overrides import JOB_KINDS, OverrideKind, OverrideRequest
from core.rpc import Listen, RpcServer
from storage.bulk.operations import Operation, OperationState
from storage.interfaces import ClusterStore
from storage.limits import MAX_OPERATIONS
from storage.operation_pages import (
    FORGET,
    ListedOperation,
    OperationPage,
    listed_operation,
    operation_of,
    operation_of_override,
    operation_page,
)
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.serving import client as client_module
from storage.serving import storage_pb2 as pb
from storage.serving.client import StorageClient
from storage.serving.metrics import METHODS, StorageMetrics
from storage.serving.operation_messages import operation_page_message, operation_page_of
from storage.serving.service import RIGHTS, StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.testing.decisions import A, B, C, founds, joins, put
from tests.support.known_operations import DONE, FORGETTING, MOVING, PLANNING, KnownOperations, filled_operations
from tests.support.ports import free_ports

LIMIT = 1 << 22
ALL = Access(anyone=frozenset({Right.READ, Right.WRITE}))
KEYS = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))


@contextmanager
def client_of(store: ClusterStore, key: str = "", access: Access = ALL) -> Iterator[StorageClient]:
    with ExitStack() as parts:
        registry = CollectorRegistry()
        service = StorageService(store, StorageMetrics(registry, store.state(), 0))
        port, page = free_ports(2)
        server = RpcServer(
            "storage",
            Listen("127.0.0.1", port, page, LIMIT, workers=4, access=access),
            partial(add_ClusterStorageServicer_to_server, service),
            registry,
            RIGHTS,
        )
        server.start()
        parts.callback(server.stop, 0.1)
        client = StorageClient(f"127.0.0.1:{port}", 5.0, LIMIT, Credentials(key=key))
        parts.callback(client.close)
        yield client


@pytest.fixture
def store() -> KnownOperations:
    return filled_operations()


LISTED = [
    ListedOperation(DONE, OverrideKind.PIN),
    ListedOperation(MOVING, OverrideKind.MERGE),
    ListedOperation(PLANNING, None),
]


@pytest.mark.parametrize(
    "page",
    [
        OperationPage((*LISTED, ListedOperation(FORGETTING, FORGET)), more=True),
        OperationPage((), more=False),
    ],
)
def test_pages_come_out_as_they_went_in(page: OperationPage) -> None:
    back = pb.ListOperationsResponse.FromString(operation_page_message(page).SerializeToString())
    assert operation_page_of(back) == page


def test_any_page_size_yields_the_same_moves(store: KnownOperations, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(store) as client:
        assert client.operations(0, 10) == LISTED
        assert client.operations(1, 1) == LISTED[1:2]
        assert client.operations(4, 10) == client.operations(2**64 - 1, 10) == []
        monkeypatch.setattr(client_module, "MAX_OPERATIONS", 1)
        assert client.operations(0, 10) == LISTED
        assert client.operations(0, 2) == LISTED[:2]


@pytest.mark.parametrize("limit", [0, MAX_OPERATIONS + 1])
def test_a_page_has_a_limit(store: KnownOperations, limit: int) -> None:
    with client_of(store) as client, pytest.raises(RefusedError, match="1 to 1000 operations"):
        client._call(client._stub.ListOperations, pb.ListOperationsRequest(limit=limit))


def test_one_move_is_found_by_its_number(store: KnownOperations) -> None:
    assert [listed_operation(store, number) for number in range(1, 5)] == [*LISTED[:2], None, LISTED[2]]
    assert [operation_of(store, number) for number in (0, 3, 5)] == [None] * 3
    store.moves[5] = replace(DONE, number=5, override=3)
    assert [operation_of_override(store.operations, number) for number in range(1, 5)] == [
        DONE,
        MOVING,
        store.moves.pop(5),
        None,
    ]
    assert operation_page(store, 1, 1) == OperationPage((LISTED[1],), more=True)
    assert operation_page(store, 1, 2) == OperationPage(tuple(LISTED[1:]), more=False)


def test_an_override_that_came_first_gives_a_plan_no_kind(store: KnownOperations) -> None:
    """It takes the number that the plan was to have."""
    store.moves = {3: Operation(3, OperationState.PLANNING, 9, 0, 0, 7, override=3)}
    found = listed_operation(store, 3)
    assert found is not None
    assert found.kind is None


def test_a_forget_is_told_as_such_while_it_is_planned_too(store: KnownOperations) -> None:
    store.moves[5] = FORGETTING
    assert listed_operation(store, 5) == ListedOperation(FORGETTING, FORGET)


def test_a_move_rests_goes_on_and_a_plan_is_cancelled(store: KnownOperations) -> None:
    with client_of(store) as client:
        client.pause_operation(2, rests=True)
        assert client.operations(1, 1)[0].operation.state is OperationState.PAUSED
        client.pause_operation(2, rests=False)
        assert client.operations(0, 10) == LISTED
        client.cancel_operation(4)
        assert client.operations(0, 10) == LISTED[:2]


def test_what_is_not_under_way_is_refused(store: KnownOperations) -> None:
    with client_of(store) as client:
        for number in (1, 3, 4, 2**64 - 1):
            with pytest.raises(RefusedError, match=f"no bulk move {number} is under way"):
                client.pause_operation(number, rests=True)
        for number in (1, 2, 3):
            with pytest.raises(RefusedError, match=f"no bulk move {number} is being planned"):
                client.cancel_operation(number)
    assert store.moves == {1: DONE, 2: MOVING, 4: PLANNING}


@pytest.mark.parametrize(
    "write",
    [
        lambda client: client.pause_operation(2, rests=True),
        lambda client: client.pause_operation(2, rests=False),
        lambda client: client.cancel_operation(4),
    ],
)
def test_only_the_write_key_writes(store: KnownOperations, write: Callable[[StorageClient], None]) -> None:
    for key in ("", "read-key", "parts-token"):
        with client_of(store, key, KEYS) as client:
            assert client.operations(0, 10) == LISTED
            with pytest.raises(DeniedError):
                write(client)
    assert store.moves == {1: DONE, 2: MOVING, 4: PLANNING}
    with client_of(store, "write-key", KEYS) as client:
        write(client)


def test_the_methods_are_counted() -> None:
    assert {"ListOperations", "PauseOperation", "CancelOperation"} <= set(METHODS)


def test_the_moves_of_a_real_store(tmp_path: Path) -> None:
    store = RocksStore(tmp_path, options=RocksOptions(sync=False), moves_at_once=0)
    put(store, founds(0, A), joins(1, B, A), founds(2, C), kinds=JOB_KINDS)
    try:
        with client_of(store) as client:
            assert client.operations(0, 10) == []
            client.override(OverrideRequest(OverrideKind.MERGE, (A,), C))
            [listed] = client.operations(0, 10)
            operation = listed.operation
            assert (listed.kind, operation.number, operation.state) == (OverrideKind.MERGE, 1, OperationState.MOVING)
            assert (operation.total, operation.moved, operation.first, operation.ended_ms) == (2, 1, 4, None)
            client.pause_operation(1, rests=True)
            assert not store.settle(10)
            client.pause_operation(1, rests=False)
            while store.settle(10):
                pass
            [listed] = client.operations(0, 10)
            assert (listed.operation.state, listed.operation.moved) == (OperationState.DONE, 2)
            assert listed.operation.ended_ms is not None
    finally:
        store.close()
