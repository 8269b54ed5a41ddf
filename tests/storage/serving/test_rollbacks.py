"""Rollbacks over gRPC: what crosses the wire comes out as it went in, and bad words are refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from core.access import Access, Right
from core.errors import BadInputError, DeadlineError, RefusedError
from core.overrides import (
    ChangeFilter,
    NewImages,
    Override,
    OverrideKind,
    OverrideMove,
    OverrideOutcome,
    OverrideRequest,
    Point,
    Rollback,
    RollbackRequest,
)
from core.rpc import Listen, RpcServer
from core.types import Cause, ImageId
from storage.memory import MemoryStore
from storage.serving import storage_pb2 as pb
from storage.serving.client import StorageClient
from storage.serving.metrics import StorageMetrics
from storage.serving.override_messages import (
    outcome_message,
    outcome_of,
    override_request_message,
    read_override_request,
)
from storage.serving.service import RIGHTS, StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.testing.decisions import A, C, D
from tests.support.bad_hour import AT_10_30_MS, bad_hour_store
from tests.support.ports import free_ports

ALL = Access(anyone=frozenset({Right.READ, Right.WRITE}))
FILTERS = [
    ChangeFilter(),
    ChangeFilter(model="bad"),
    ChangeFilter(head=ImageId("röse 1/2")),
    ChangeFilter(cause=Cause.MATCHED),
    ChangeFilter("bad", A, Cause.FOUNDED),
]


@pytest.fixture
def client() -> Iterator[StorageClient]:
    store, registry, (port, page) = bad_hour_store(), CollectorRegistry(), free_ports(2)
    with ExitStack() as parts:
        service = StorageService(store, StorageMetrics(registry, store.state(), 0), now_ms=lambda: 1_000)
        server = RpcServer(
            "storage",
            Listen("127.0.0.1", port, page, 1 << 22, access=ALL),
            partial(add_ClusterStorageServicer_to_server, service),
            registry,
            RIGHTS,
        )
        server.start()
        parts.callback(server.stop, 0.1)
        client = StorageClient(f"127.0.0.1:{port}", 5.0, 1 << 22)
        parts.callback(client.close)
        yield client


def roll_back(**fields: object) -> OverrideRequest:
    return OverrideRequest(OverrideKind.ROLLBACK, rollback=RollbackRequest(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("new", NewImages)
@pytest.mark.parametrize(
    ("to_ms", "to_change", "since_ms"), [(None, None, None), (0, None, 0), (None, 0, None), (2**63 - 1, 7, 9)]
)
def test_a_request_comes_out_as_it_went_in(
    where: ChangeFilter, new: NewImages, to_ms: int | None, to_change: int | None, since_ms: int | None
) -> None:
    request = roll_back(to_ms=to_ms, to_change=to_change, since_ms=since_ms, where=where, new=new)
    message = override_request_message(request, dry_run=False)
    assert read_override_request(pb.ApplyOverrideRequest.FromString(message.SerializeToString())) == request


@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("new", NewImages)
@pytest.mark.parametrize(
    ("to", "since", "of", "until"), [(Point(), Point(), 0, None), (Point(0, 0), Point(2**62, 2**62), 2**62, Point())]
)
def test_a_rollback_comes_out_as_it_went_in(
    where: ChangeFilter, new: NewImages, to: Point, since: Point, of: int, until: Point | None
) -> None:
    rollback = Rollback(to, since, where, new, of, until)
    override = Override(7, OverrideKind.ROLLBACK, (), None, 0, "ann", "why", 1, -1, rollback=rollback)
    outcome = OverrideOutcome(override, (), created=True)
    back = pb.ApplyOverrideResponse.FromString(outcome_message(outcome).SerializeToString())
    assert outcome_of(back) == outcome
    without = replace(outcome, override=replace(override, rollback=None))
    assert outcome_of(outcome_message(without)) == without


def test_a_caller_that_leaves_out_what_becomes_of_new_images_has_them_decided() -> None:
    message = pb.ApplyOverrideRequest(kind="rollback", rollback=pb.RollbackRequest(to_change=3))
    assert read_override_request(message) == roll_back(to_change=3, new=NewImages.DECIDE)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (pb.RollbackRequest(where=pb.ChangeFilter(cause="hidden")), "there is no cause 'hidden': say founded, matched"),
        (pb.RollbackRequest(where=pb.ChangeFilter(cause="")), "there is no cause ''"),
        (pb.RollbackRequest(new="drop"), "there is no new 'drop': say decide, keep"),
        (pb.RollbackRequest(where=pb.ChangeFilter(head="")), "1 to 256 bytes"),
        (pb.RollbackRequest(where=pb.ChangeFilter(model="x" * 1_025)), "the model version has 1025 bytes"),
        (pb.RollbackRequest(to_ms=-1), "to_ms"),
        (pb.RollbackRequest(to_change=-1), "to_change"),
        (pb.RollbackRequest(since_ms=-1), "since_ms"),
    ],
)
def test_bad_values_are_refused(asked: pb.RollbackRequest, problem: str) -> None:
    with pytest.raises(BadInputError, match=problem):
        read_override_request(pb.ApplyOverrideRequest(kind="rollback", rollback=asked))


def test_a_rollback_is_said_listed_and_undone(client: StorageClient) -> None:
    request = roll_back(to_ms=AT_10_30_MS, where=ChangeFilter(model="bad"))
    tried = client.override(request, dry_run=True)
    assert (tried.created, tried.override.number, client.overrides(0, 10)) == (False, 1, [])
    said = client.override(request, deadline_s=60.0)
    assert (said.created, set(said.moves)) == (True, {OverrideMove(C, A, C), OverrideMove(D, A, D)})
    expected = Rollback(Point(2, 0), Point(2, 0), ChangeFilter(model="bad"), NewImages.DECIDE)
    assert said.override.rollback == expected
    undo = client.override(OverrideRequest(OverrideKind.UNDO, undoes=1))
    assert set(undo.moves) == {OverrideMove(C, C, A), OverrideMove(D, D, A)}
    assert undo.override.rollback is not None
    assert undo.override.rollback.of == 1
    listed = [(each.override.rollback, each.undone_by) for each in client.overrides(0, 10)]
    assert listed == [(expected, 2), (undo.override.rollback, None)]


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (roll_back(), "name one of them"),
        (roll_back(to_ms=1, to_change=1), "name one of them"),
        (roll_back(to_change=6), "there is no change 6: 1 to 5 are kept"),
        (OverrideRequest(OverrideKind.ROLLBACK), "a rollback names a time or a change"),
        (replace(roll_back(to_change=3), kind=OverrideKind.UNDO, undoes=1), "goes back to no moment"),
    ],
)
def test_what_goes_back_to_no_moment_is_refused(client: StorageClient, request_: OverrideRequest, problem: str) -> None:
    with pytest.raises(RefusedError, match=problem):
        client.override(request_)
    assert client.overrides(0, 10) == []


def test_a_call_has_the_deadline_that_it_is_given(client: StorageClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of the client is far longer than that of the call."""
    monkeypatch.setattr(MemoryStore, "override", lambda *_, **__: time.sleep(1.0))
    with pytest.raises(DeadlineError):
        client.override(roll_back(to_change=3), deadline_s=0.05)
