"""Overrides over gRPC: what crosses the wire comes out as it went in, within limits, for those who may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import grpc
import pytest
from prometheus_client import CollectorRegistry

from core.access import Access, Credentials, Keys, Right
from core.errors import ConflictError, DeniedError, MismatchError, RefusedError, UnavailableError
from core.overrides import (
    MAX_FORBIDDEN,
    MAX_IMAGES,
    ListedOverride,
    Override,
    OverrideKind,
    OverrideMove,
    OverrideOutcome,
    OverrideRequest,
)
from core.rpc import Listen, RpcServer
from core.types import ImageId, ImageRules, LogPosition, Lookup, Membership
from storage.errors import DiskFullError
from storage.limits import MAX_ID_BYTES, MAX_LISTED_MOVES, MAX_OVERRIDES, MAX_TEXT_BYTES
from storage.memory import MemoryStore
from storage.override_pages import MAX_PAGE_BYTES, OverridePage, override_of, override_page
from storage.serving import client as client_module
from storage.serving import storage_pb2 as pb
from storage.serving.client import StorageClient
from storage.serving.messages import lookup_message, lookup_of
from storage.serving.metrics import StorageMetrics
from storage.serving.override_messages import (
    outcome_message,
    outcome_of,
    override_page_message,
    override_page_of,
    override_request_message,
    read_override_request,
)
from storage.serving.service import RIGHTS, StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.testing.decisions import A, B, C, D, founds, joins, put
from tests.support.ports import free_ports
from tests.support.said_overrides import SaidOverrides

LIMIT = 1 << 22
DEFAULT_LIMIT = 1 << 25
ALL = Access(anyone=frozenset({Right.READ, Right.WRITE}))
LONGEST = "x" * MAX_ID_BYTES
FORBID = OverrideRequest(OverrideKind.FORBID, (B,), A, author="ann", reason="a shoe is no cat")
PIN = replace(FORBID, kind=OverrideKind.PIN)
UNDO = OverrideRequest(OverrideKind.UNDO, undoes=1, author="bob")
SAID = Override(7, OverrideKind.SPLIT, (B, C), A, 0, "ann", "why", 1_700_000_000_000, -1)


@contextmanager
def client_of(store: MemoryStore, key: str = "", access: Access = ALL, limit: int = LIMIT) -> Iterator[StorageClient]:
    with ExitStack() as parts:
        registry = CollectorRegistry()
        service = StorageService(store, StorageMetrics(registry, store.state(), 0), now_ms=lambda: 1_000)
        port, page = free_ports(2)
        server = RpcServer(
            "storage",
            Listen("127.0.0.1", port, page, limit, workers=4, access=access),
            partial(add_ClusterStorageServicer_to_server, service),
            registry,
            RIGHTS,
        )
        server.start()
        parts.callback(server.stop, 0.1)
        client = StorageClient(f"127.0.0.1:{port}", 30.0, limit, Credentials(key=key))
        parts.callback(client.close)
        yield client


@pytest.fixture
def store() -> SaidOverrides:
    store = SaidOverrides()
    put(store, founds(0, A), joins(1, B, A), founds(2, C))
    return store


@pytest.fixture
def client(store: SaidOverrides) -> Iterator[StorageClient]:
    with client_of(store) as client:
        yield client


@pytest.mark.parametrize("kind", OverrideKind)
@pytest.mark.parametrize("target", [None, A])
def test_what_is_said_comes_out_as_it_went_in(kind: OverrideKind, target: ImageId | None) -> None:
    request = OverrideRequest(kind, (B, ImageId("röse 1/2")), target, 2**63 - 1, "ann", "a\nb")
    message = override_request_message(request, dry_run=True)
    back = pb.ApplyOverrideRequest.FromString(message.SerializeToString())
    assert read_override_request(back) == request
    assert back.dry_run
    empty = OverrideRequest(kind)
    assert read_override_request(override_request_message(empty, dry_run=False)) == empty


@pytest.mark.parametrize("created", [True, False])
def test_outcomes_come_out_as_they_went_in(created: bool) -> None:
    outcome = OverrideOutcome(SAID, (OverrideMove(B, A, B), OverrideMove(C, A, B)), created)
    back = pb.ApplyOverrideResponse.FromString(outcome_message(outcome).SerializeToString())
    assert outcome_of(back) == outcome
    undone = replace(outcome, override=replace(SAID, kind=OverrideKind.UNDO, images=(), target=None, undoes=6))
    assert outcome_of(outcome_message(undone)) == undone


def test_pages_come_out_as_they_went_in() -> None:
    listed = (ListedOverride(SAID, None, waits=True), ListedOverride(replace(SAID, number=8), 9, waits=False))
    for page in (OverridePage(listed, more=True), OverridePage((), more=False)):
        back = pb.ListOverridesResponse.FromString(override_page_message(page).SerializeToString())
        assert override_page_of(back) == page


def test_the_rules_of_a_look_up_come_out_as_they_went_in() -> None:
    lookup = Lookup(
        LogPosition("log", 7),
        3,
        {A: Membership(A, 1, 5, B)},
        rules={A: ImageRules(B, (C, D), ()), B: ImageRules(None, (), (A,)), C: ImageRules()},
        rule_heads={B: B, C: D},
    )
    assert lookup_of(pb.LookUpResponse.FromString(lookup_message(lookup).SerializeToString())) == lookup
    without = replace(lookup, rules={}, rule_heads={})
    assert lookup_of(lookup_message(without)) == without


def test_many_moves_are_counted_and_the_answer_fits_into_the_smallest_frame() -> None:
    """All ids as long as they may be, all texts too."""
    moves = (OverrideMove(ImageId(LONGEST), ImageId(LONGEST), ImageId(LONGEST)),) * (MAX_LISTED_MOVES + 7)
    words = "x" * MAX_TEXT_BYTES
    longest = replace(SAID, images=(ImageId(LONGEST),) * MAX_FORBIDDEN, target=LONGEST, author=words, reason=words)
    message = outcome_message(OverrideOutcome(longest, moves, created=True))
    assert (len(message.moves), message.unlisted) == (MAX_LISTED_MOVES, 7)
    assert outcome_of(message).unlisted == 7
    assert message.ByteSize() < 1 << 20


def test_an_override_is_said_with_the_servers_time(client: StorageClient, store: SaidOverrides) -> None:
    store.moves = (OverrideMove(B, A, B),)
    outcome = client.override(FORBID)
    expected = Override(1, FORBID.kind, FORBID.images, A, 0, FORBID.author, FORBID.reason, 1_000, 2)
    assert outcome == OverrideOutcome(expected, store.moves, created=True)
    again = client.override(replace(FORBID, author="bob"))
    assert (again.created, again.moves, again.override) == (False, (), expected)


def test_a_dry_run_writes_nothing(client: StorageClient, store: SaidOverrides) -> None:
    store.moves = (OverrideMove(B, A, B),)
    outcome = client.override(FORBID, dry_run=True)
    assert (outcome.created, outcome.moves) == (False, store.moves)
    assert store.said == []


def test_what_was_said_is_listed(client: StorageClient) -> None:
    client.override(FORBID)
    client.override(UNDO)
    client.override(OverrideRequest(OverrideKind.MERGE, (C,), A))
    kinds = [(each.override.number, each.override.kind, each.undone_by) for each in client.overrides(0, 1_000)]
    assert kinds == [(1, "forbid", 2), (2, "undo", None), (3, "merge", None)]
    assert [each.override.number for each in client.overrides(1, 1)] == [2]
    assert [each.override.number for each in client.overrides(0, 10, C)] == [3]
    assert client.overrides(3, 10) == client.overrides(0, 0) == []


def test_errors_of_the_store_reach_the_caller(client: StorageClient) -> None:
    client.override(FORBID)
    with pytest.raises(ConflictError, match="override 1 says the contrary"):
        client.override(replace(FORBID, kind=OverrideKind.PIN))
    with pytest.raises(RefusedError, match="the target 'd' is unknown"):
        client.override(replace(FORBID, target=D))
    with pytest.raises(RefusedError, match="there is no override 9"):
        client.override(replace(UNDO, undoes=9))


class Failing(SaidOverrides):
    """Fails as it is told."""

    error: Exception

    def override(self, request: OverrideRequest, at_ms: int, *, dry_run: bool = False) -> OverrideOutcome:
        raise self.error


def test_a_job_that_knows_no_overrides_is_a_mismatch_and_a_full_disk_a_wait() -> None:
    store = Failing()
    with client_of(store) as client:
        store.error = MismatchError("the job that wrote last does not know the kinds override")
        with pytest.raises(MismatchError, match="does not know") as caught:
            client.override(FORBID)
        assert not isinstance(caught.value, ConflictError)
        store.error = DiskFullError("no space")
        with pytest.raises(UnavailableError, match="no space"):
            client.override(FORBID)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (replace(FORBID, images=(B,) * (MAX_FORBIDDEN + 1)), "a forbid names at most 1000 images, not 1001"),
        (replace(PIN, images=(B,) * (MAX_IMAGES + 1)), "a pin names at most 100000 images, not 100001"),
        (replace(FORBID, images=(ImageId(""),)), "1 to 256 bytes"),
        (replace(FORBID, images=(ImageId(f"{LONGEST}x"),)), "1 to 256 bytes"),
        (replace(FORBID, target=ImageId("")), "1 to 256 bytes"),
        (replace(FORBID, author="x" * 1_025), "the author has 1025 bytes"),
        (replace(FORBID, reason="é" * 513), "the reason has 1026 bytes"),
        (replace(UNDO, undoes=2**63), "undoes"),
    ],
)
def test_what_is_too_long_is_refused(
    client: StorageClient, store: SaidOverrides, request_: OverrideRequest, problem: str
) -> None:
    with pytest.raises(RefusedError, match=problem):
        client.override(request_)
    assert store.said == []


def test_the_largest_override_is_taken(store: SaidOverrides) -> None:
    words = "x" * MAX_TEXT_BYTES
    images = tuple(ImageId(f"{number:0256}") for number in range(MAX_IMAGES))
    largest = OverrideRequest(OverrideKind.PIN, images, A, author=words, reason=words)
    store.moves = (OverrideMove(ImageId(LONGEST), ImageId(LONGEST), ImageId(LONGEST)),) * (MAX_LISTED_MOVES + 7)
    with client_of(store, limit=DEFAULT_LIMIT) as client:
        assert client.override(largest).override.images == images
        [listed] = client.overrides(0, 10)
    assert store.said[0].override.images == listed.override.images == images


def test_an_override_that_no_message_holds_is_refused_with_the_way_out(
    client: StorageClient, store: SaidOverrides
) -> None:
    images = tuple(ImageId(f"{number:0256}") for number in range(20_000))
    with pytest.raises(RefusedError, match="say it in several overrides, or raise max_message_bytes"):
        client.override(replace(PIN, images=images))
    assert store.said == []


def test_a_kind_that_nobody_knows_is_refused(client: StorageClient) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client._stub.ApplyOverride(pb.ApplyOverrideRequest(kind="hide"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "there is no override 'hide': say pin, forbid, split, merge, rollback, undo"


@pytest.mark.parametrize(
    ("limit", "image_id", "problem"), [(0, None, "1 to 1000"), (1_001, None, "1 to 1000"), (10, "", "1 to 256 bytes")]
)
def test_a_page_that_nobody_can_have_is_refused(
    client: StorageClient, limit: int, image_id: str | None, problem: str
) -> None:
    with pytest.raises(grpc.RpcError, match=problem) as caught:
        client._stub.ListOverrides(pb.ListOverridesRequest(limit=limit, image_id=image_id))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def fill(store: SaidOverrides, count: int, images: tuple[ImageId, ...] = (B,)) -> None:
    store.said = [
        ListedOverride(replace(SAID, number=number, images=images), None, waits=False) for number in range(1, count + 1)
    ]


def test_a_client_reads_more_than_a_page(client: StorageClient, store: SaidOverrides) -> None:
    fill(store, MAX_OVERRIDES + 50)
    assert [each.override.number for each in client.overrides(0, 5_000)] == list(range(1, MAX_OVERRIDES + 51))
    assert len(client.overrides(0, MAX_OVERRIDES + 20)) == MAX_OVERRIDES + 20


def test_large_overrides_come_in_small_pages(client: StorageClient, store: SaidOverrides) -> None:
    images = tuple(ImageId(f"{number:0256}") for number in range(MAX_FORBIDDEN))
    fill(store, 20, images)
    page = override_page(store, 0, 1_000)
    assert page.more
    assert MAX_PAGE_BYTES <= override_page_message(page).ByteSize() < 2 * MAX_PAGE_BYTES
    assert [each.override.number for each in client.overrides(0, 1_000)] == list(range(1, 21))


@pytest.mark.parametrize(("count", "limit", "more"), [(16, 16, False), (17, 16, True), (0, 1, False), (1, 1, False)])
def test_a_page_knows_whether_it_is_the_last(store: SaidOverrides, count: int, limit: int, more: bool) -> None:
    fill(store, count)
    page = override_page(store, 0, limit)
    assert (len(page.items), page.more) == (min(count, limit), more)


def test_an_override_is_found_by_its_number(store: SaidOverrides) -> None:
    fill(store, 3)
    found = override_of(store, 2)
    assert found is not None
    assert found.override.number == 2
    assert override_of(store, 4) is None


@pytest.mark.parametrize("key", ["", "read-key", "parts-token"])
def test_only_the_write_key_says_overrides(store: SaidOverrides, key: str) -> None:
    access = Access(Keys("parts-token", "read-key", "write-key"), frozenset({Right.READ}))
    with client_of(store, key, access) as client, pytest.raises(DeniedError, match="write key"):
        client.override(FORBID, dry_run=True)
    with client_of(store, "write-key", access) as client:
        assert client.override(FORBID).created


def test_reading_overrides_needs_the_read_key_where_all_do(store: SaidOverrides) -> None:
    access = Access(Keys("parts-token", "read-key", "write-key"), frozenset())
    with client_of(store, "", access) as client, pytest.raises(DeniedError):
        client.overrides(0, 10)
    with client_of(store, "read-key", access) as client:
        assert client.overrides(0, 10) == []


class Ruled(SaidOverrides):
    """Says a rule of each image that is asked for."""

    def look_up(self, ids: object, verdicts_of: object = ()) -> Lookup:
        asked = list(ids)  # type: ignore[call-overload]
        return Lookup(
            LogPosition(),
            0,
            rules={each: ImageRules(pinned_to=A) for each in asked},
            rule_heads=dict.fromkeys(asked, C),
        )


def test_a_look_up_of_several_calls_has_the_rules_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_LOOK_UP", 2)
    ids = [ImageId(str(number)) for number in range(5)]
    with client_of(Ruled()) as client:
        found = client.look_up(ids)
    assert list(found.rules) == ids
    assert found.rule_heads == dict.fromkeys(ids, C)
