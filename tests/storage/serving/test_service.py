"""The gRPC service and its client: everything that crosses the wire comes out as it went in, errors too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from core.delete_requests import FORGET_KIND
from core.errors import (
    BusyError,
    LogGapError,
    MismatchError,
    NeardupError,
    RefusedError,
    StaleError,
    UnavailableError,
)
from core.manifest_rows import MemberRow, RowResult
from core.notifications import MAX_IMAGE_VERSION, RECORD_KINDS
from core.rpc import Listen, RpcServer
from core.types import (
    Cause,
    Cluster,
    Decision,
    ImageId,
    LastVerdict,
    LogPosition,
    Lookup,
    Membership,
    Move,
    Outcome,
    RequestSource,
    Tombstone,
    Trigger,
    Versions,
)
from storage.errors import ContradictionError, CorruptedError, DiskFullError, StorageError
from storage.forgotten import ErasureCounts
from storage.limits import MAX_NAMED
from storage.memory import MemoryStore
from storage.selecting import ImageSelection, named_images, selected_pages
from storage.serving import client as client_module
from storage.serving import storage_pb2 as pb
from storage.serving.client import StorageClient
from storage.serving.messages import decision_message, lookup_message, lookup_of, read_decision
from storage.serving.metrics import StorageMetrics
from storage.serving.service import MAX_SELECTIONS, StorageService
from storage.serving.storage_pb2_grpc import add_ClusterStorageServicer_to_server
from storage.testing.decisions import (
    A,
    B,
    C,
    D,
    assert_holds,
    decided,
    deletes,
    fill,
    forgets,
    founds,
    ignored,
    joins,
    put,
    replays,
)
from storage.testing.deltas import member
from storage.testing.forgetting import erase_all
from storage.testing.model import LOG, REPLAYS, StoreModel, actions, seeded_actions
from storage.written import written_at
from tests.support.ports import free_ports
from tests.support.store_wrappers import CountingStore

LIMIT = 65_536


@dataclass
class Served:
    store: CountingStore
    registry: CollectorRegistry
    client: StorageClient

    def value(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, name
        return value


@pytest.fixture
def served() -> Iterator[Served]:
    with ExitStack() as parts:
        store = CountingStore(MemoryStore())
        registry = CollectorRegistry()
        service = StorageService(store, StorageMetrics(registry, store.state(), 0), now_ms=lambda: 1_000)
        port, page = free_ports(2)
        server = RpcServer(
            "storage",
            Listen("127.0.0.1", port, page, LIMIT, workers=4),
            partial(add_ClusterStorageServicer_to_server, service),
            registry,
        )
        server.start()
        parts.callback(server.stop, 0.1)
        client = StorageClient(f"127.0.0.1:{port}", 5.0, LIMIT)
        parts.callback(client.close)
        yield Served(store, registry, client)


@given(st.lists(actions, max_size=20))
def test_decisions_come_out_as_they_went_in(steps: list[Any]) -> None:
    model = StoreModel()
    for action in steps:
        decision = model.decide(action)
        back = read_decision(pb.Decision.FromString(decision_message(decision).SerializeToString()))
        scores = [(one.score, other.score) for one, other in zip(decision.moves, back.moves, strict=True)]
        assert all(one == pytest.approx(other, rel=1e-6) for one, other in scores if one is not None)
        moves = tuple(replace(move, score=one) for move, (one, _) in zip(back.moves, scores, strict=True))
        assert replace(back, moves=moves) == decision


def test_a_score_of_zero_is_not_no_score() -> None:
    move = Move(A, None, B, Cause.MATCHED, 0.0, B)
    assert read_decision(decision_message(decided(0, A, move))).moves == (move,)


def test_rows_come_out_as_they_went_in() -> None:
    decision = decided(3, A, Move(A, None, A, Cause.FOUNDED), member=MemberRow("0f" * 16, 0, RowResult.FOUNDED))
    message = decision_message(decision)
    assert read_decision(message) == decision
    message.member.result = "lost"
    with pytest.raises(RefusedError, match="lost"):
        read_decision(message)


def test_look_ups_come_out_as_they_went_in() -> None:
    lookup = Lookup(
        LogPosition("log", 7, 2**32 - 1),
        3,
        {A: Membership(A, 2**64 - 1, 5, B)},
        {B: Cluster(B, 2, b"\x00\xff", head_deleted=True)},
        {C: Tombstone(C, 4, 6, 1_000, "me", "takedown")},
        {
            A: LastVerdict(Cause.MATCHED, 0.5, B, Versions("m", "i"), unscored=True),
            D: LastVerdict(Cause.FOUNDED, None, None, Versions()),
        },
        {RequestSource("topic", 1): 8},
    )
    assert lookup_of(pb.LookUpResponse.FromString(lookup_message(lookup).SerializeToString())) == lookup


def test_heads_come_out_as_they_went_in(served: Served) -> None:
    put(served.store, founds(0, A), joins(1, B, A), founds(2, C), deletes(3, C, C))
    asked = [B, ImageId("nobody"), A, B, C]
    assert served.client.heads(asked) == served.store.heads(asked)
    with pytest.raises(RefusedError, match="at most 8192"):
        served.client.heads([A] * 8193)


def test_words_that_nobody_knows_are_refused() -> None:
    message = decision_message(decided(3, A, Move(A, None, A, Cause.FOUNDED)))
    message.moves[0].cause = "whim"
    with pytest.raises(RefusedError, match="whim") as caught:
        read_decision(message)
    assert caught.value.offset == 3


def test_deletes_replays_and_kinds_cross_the_wire(served: Served) -> None:
    client = served.client
    with pytest.raises(MismatchError, match="delete"):
        client.require_kinds(["delete"])
    assert client.apply(LOG, [founds(0, A), joins(1, B, A)], -1, 0, RECORD_KINDS) == 1
    client.require_kinds(["delete", "replay"])
    described = client.describe()
    assert (set(described.kinds), list(described.required)) == (set(RECORD_KINDS), ["delete", "replay"])
    with pytest.raises(MismatchError, match="delete"):
        client.apply(LOG, [founds(2, C)], 1, 1)
    assert client.apply(LOG, [deletes(2, A, A), replays(3, B, request=5)], 1, 1, RECORD_KINDS) == 3
    lookup = client.look_up([A, B], verdicts_of=[B])
    assert lookup == served.store.look_up([A, B], verdicts_of=[B])
    assert (lookup.tombstones.keys(), lookup.verdicts.keys()) == ({A}, {B})
    assert [(each.topic_id, each.offset) for each in client.describe().requests] == [(REPLAYS.topic_id, 5)]
    pages = list(client.embeddings())
    assert [each.image_id for page in pages for each in page.tombstones] == [A]
    assert [each.image_id for page in pages for each in page.rows] == [B]


def test_what_is_forgotten_crosses_the_wire(served: Served) -> None:
    client, kinds = served.client, (*RECORD_KINDS, FORGET_KIND)
    assert client.forgotten([A]) == ([], ErasureCounts())
    assert next(client.embeddings()).pseudonyms is None
    client.apply(LOG, [founds(0, A), joins(1, B, A), joins(2, C, A)], -1, 0, kinds)
    client.require_kinds(["delete", FORGET_KIND])
    with pytest.raises(MismatchError, match="forget"):
        client.apply(LOG, [founds(3, D)], 2, 1, RECORD_KINDS)
    client.apply(LOG, [forgets(3, A, A, version=MAX_IMAGE_VERSION)], 2, 1, kinds)
    assert served.store.members(B, 9).items == (B, C)
    (image,), counts = client.forgotten([A, B])
    assert (image.image_id, image.position, image.forgotten_at_ms, image.erased_at_ms) == (A, 3, 33, 0)
    assert (image.refused, image.returned, image.overrides) == (True, False, ())
    assert counts == ErasureCounts(0, 1, 33)
    page = next(client.embeddings())
    with served.store.snapshot() as view:
        assert page.pseudonyms == view.pseudonyms()
    assert [each.image_id for each in page.tombstones] == [image.pseudonym]
    erase_all(served.store)
    (image,), counts = client.forgotten([A])
    assert (image.erased_at_ms, counts) == (777, ErasureCounts(1, 0, 0))
    assert client.look_up([A]).tombstones[A].version == MAX_IMAGE_VERSION


def test_the_way_of_a_batch(served: Served) -> None:
    client = served.client
    assert client.look_up([A]) == Lookup(LogPosition(), 0, {}, {})
    assert client.apply(LOG, [founds(0, A), joins(1, B, A)], -1, 0) == 1
    lookup = client.look_up([A, B, B, C])
    assert lookup.position == LogPosition(LOG, 1, 1001)
    assert lookup.memberships == {A: Membership(A, 1, 0, A), B: Membership(B, 1, 1, A)}
    assert lookup.clusters == {A: Cluster(A, 2, b"\x00")}
    described = client.describe()
    assert (described.log_id, described.offset, described.checksum) == (LOG, 1, 1001)
    assert (described.images, described.clusters, described.history_number, described.published) == (2, 1, 2, 0)
    assert client.apply(LOG, [], 1, 0) == 1


def test_a_long_stream(served: Served) -> None:
    model, dice = StoreModel(), iter(seeded_actions(9, 400, ids=80))
    while batch := [model.decide(action) for action, _ in zip(dice, range(37), strict=False)]:
        assert served.client.apply(LOG, batch, batch[0].offset - 1, 0) == batch[-1].offset
    assert_holds(served.store, model)


@pytest.mark.parametrize(
    ("offset", "revision", "decisions", "error", "fields"),
    [
        (-1, 0, [founds(0, B)], StaleError, {"offset": 0, "revision": 0}),
        (0, 1, [founds(1, B)], StaleError, {"offset": 0, "revision": 0}),
        (0, 0, [founds(2, B)], LogGapError, {"expected": 1}),
        (0, 0, [founds(1, ImageId("x" * 257))], RefusedError, {"offset": 1}),
        (0, 0, [joins(1, B, C)], MismatchError, {}),
    ],
)
def test_refusals(
    served: Served,
    offset: int,
    revision: int,
    decisions: list[Decision],
    error: type[NeardupError],
    fields: dict[str, int],
) -> None:
    served.client.apply(LOG, [founds(0, A)], -1, 0)
    with pytest.raises(error) as caught:
        served.client.apply(LOG, decisions, offset, revision)
    assert {name: getattr(caught.value, name) for name in fields} == fields
    assert served.store.position().offset == 0


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (DiskFullError("no room"), UnavailableError),
        (CorruptedError("a block"), UnavailableError),
        (StorageError("something"), UnavailableError),
        (ContradictionError("no head"), MismatchError),
    ],
)
def test_errors_of_the_store_say_wait_and_contradictions_say_stop(
    served: Served, monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[NeardupError]
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(served.store, "apply", fail)
    monkeypatch.setattr(served.store, "look_up", fail)
    with pytest.raises(expected, match=str(raised).split("(")[0]):
        served.client.apply(LOG, [founds(0, A)], -1, 0)
    with pytest.raises(expected):
        served.client.look_up([A])
    assert served.value("neardup_storage_failed_calls_total", method="Apply", error=expected_name(raised)) == 1


def expected_name(raised: Exception) -> str:
    return "ContradictionError" if isinstance(raised, ContradictionError) else "UnavailableError"


def test_what_does_not_fit_into_one_message_goes_in_several(served: Served) -> None:
    big = [founds(n, ImageId(f"i{n}"), search_vector=b"x" * 20_000) for n in range(10)]
    assert served.client.apply(LOG, big, -1, 0) == 9
    assert served.store.calls["apply"] == 4
    assert served.store.state().images == 10


def test_a_decision_that_fits_into_no_message_is_refused(served: Served) -> None:
    huge = founds(0, A, search_vector=b"x" * 65_536)
    with pytest.raises(RefusedError) as caught:
        served.client.apply(LOG, [huge], -1, 0)
    assert caught.value.offset == 0
    assert served.store.calls["apply"] == 0


def test_a_large_look_up_goes_in_several_and_is_of_one_moment(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_LOOK_UP", 3)
    ids = [ImageId(f"i{n}") for n in range(10)]
    served.client.apply(LOG, [founds(n, each) for n, each in enumerate(ids)], -1, 0)
    inner, writes = served.store.inner.look_up, iter([founds(10, A), founds(11, B)])

    def write_between(asked: Any, verdicts_of: Any) -> Lookup:
        """Another writer comes in between, twice."""
        found = inner(asked, verdicts_of)
        for decision in writes:
            served.store.inner.apply(LOG, [decision], decision.offset - 1, 0)
            break
        return found

    monkeypatch.setattr(served.store.inner, "look_up", write_between)
    lookup = served.client.look_up(ids)
    assert lookup.position.offset == 11
    assert set(lookup.memberships) == set(lookup.clusters) == set(ids)


def test_a_store_that_never_stands_still_cannot_be_looked_up_in_parts(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_LOOK_UP", 1)
    offset = -1

    def always_write(asked: Any, verdicts_of: Any) -> Lookup:
        nonlocal offset
        offset += 1
        return Lookup(LogPosition(LOG, offset, 0), 0)

    monkeypatch.setattr(served.store.inner, "look_up", always_write)
    with pytest.raises(UnavailableError, match="changed during"):
        served.client.look_up([A, B])


def test_too_many_at_once_are_refused(served: Served) -> None:
    with pytest.raises(RefusedError, match="at most"):
        served.client._call(served.client._stub.LookUp, pb.LookUpRequest(image_ids=["a"] * 8193))
    with pytest.raises(RefusedError, match="at most"):
        served.client._call(served.client._stub.Apply, pb.ApplyRequest(decisions=[pb.Decision()] * 1025))


def test_verify_reports_to_the_end(served: Served) -> None:
    served.client.apply(LOG, [founds(0, A), joins(1, B, A), founds(2, C)], -1, 0)
    reports = list(served.client.verify())
    assert reports[-1].done
    assert (reports[-1].images, reports[-1].clusters, reports[-1].problems) == (3, 2, ())


def test_embeddings_come_by_place_with_the_moment_that_they_are_of(served: Served) -> None:
    unscored = replace(
        decided(2, C, Move(C, None, C, Cause.UNSCORED)), search_vector=b"s" * 9_000, score_vector=b"c" * 9_000
    )
    others = [replace(founds(0, A), search_vector=b"a" * 20_000), replace(joins(1, B, A), score_vector=b"b" * 20_000)]
    served.store.apply(LOG, [*others, unscored], -1, 0)
    pages = list(served.client.embeddings())
    assert [[row.image_id for row in page.rows] for page in pages] == [[A], [B], [C]]  # 32 kB a page: half a message
    rows = [row for page in pages for row in page.rows]
    assert [(row.place, row.unscored, len(row.search_vector)) for row in rows] == [
        (0, False, 20_000),
        (1, False, len(others[1].search_vector)),
        (2, True, 9_000),
    ]
    assert {(page.state.position, page.state.images) for page in pages} == {(served.store.position(), 3)}
    assert served.value("neardup_storage_call_seconds_count", method="Embeddings") == 1


def test_an_empty_store_has_one_empty_page(served: Served) -> None:
    (page,) = served.client.embeddings()
    assert page.rows == ()
    assert page.state.position.offset == -1


def test_one_reading_of_all_embeddings_at_a_time(served: Served) -> None:
    """They are more than the connection takes, whose windows grow: else the first reading ends before the second."""
    served.store.apply(
        LOG,
        [replace(founds(offset, ImageId(f"i{offset}")), search_vector=b"x" * 30_000) for offset in range(1_000)],
        -1,
        0,
    )
    first = served.client.embeddings()
    next(first)
    with pytest.raises(BusyError, match="another reading"):
        list(served.client.embeddings())
    first.close()  # type: ignore[attr-defined]


def test_verify_tells_problems(served: Served) -> None:
    served.client.apply(LOG, [founds(0, A), joins(1, B, A)], -1, 0)
    memory = served.store.inner
    assert isinstance(memory, MemoryStore)
    assert memory._content is not None
    del memory._content.embedding_at[1]
    last = list(served.client.verify())[-1]
    assert last.problem_count == 1
    assert "place 1" in last.problems[0]


def test_repair_mends_and_tells_what_it_found(served: Served) -> None:
    served.client.apply(LOG, [founds(0, A), joins(1, B, A)], -1, 0)
    memory = served.store.inner
    assert isinstance(memory, MemoryStore)
    assert memory._content is not None
    del memory._content.members_of[A][2]
    last = list(served.client.repair())[-1]
    assert last.problem_count == 2
    assert list(served.client.verify())[-1].problem_count == 0
    # The stream's next write rests on an older state, so it looks up again.
    with pytest.raises(StaleError):
        served.client.apply(LOG, [founds(2, C)], 1, 0)
    served.client.apply(LOG, [founds(2, C)], 1, 1)


def test_one_check_at_a_time_and_a_caller_that_leaves_ends_its_own(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(view: Any) -> Any:
        from storage.verify import VerifyProgress

        while not go_on.wait(0.01):
            yield VerifyProgress(False, 0, 0, 0, 0, (), 0)
        yield VerifyProgress(True, 0, 0, 0, 0, (), 0)

    monkeypatch.setattr("storage.serving.service.verify", slow)
    reports = served.client.verify()
    next(reports)
    with pytest.raises(UnavailableError, match="another check"):
        list(served.client.verify())
    reports.close()  # type: ignore[attr-defined]
    for _ in range(100):
        go_on.set()
        try:
            assert list(served.client.verify())[-1].done
            break
        except UnavailableError:
            threading.Event().wait(0.05)
    else:
        pytest.fail("the first check never ended")


def test_metrics(served: Served) -> None:
    client = served.client
    adopts = (Move(C, None, A, Cause.MATCHED, 0.9, A), Move(B, B, A, Cause.ADOPTED, 0.9, C))
    client.apply(LOG, [founds(0, A), founds(1, B), decided(2, C, *adopts)], -1, 0)
    client.apply(LOG, [ignored(3, A, Outcome.DUPLICATE)], 2, 0)
    client.look_up([A, D])
    with pytest.raises(StaleError):
        client.apply(LOG, [founds(4, D)], 2, 0)
    served.store.set_published(3)
    value = served.value
    assert value("neardup_storage_images") == 3
    assert value("neardup_storage_clusters") == 1
    assert value("neardup_storage_position_offset") == 3
    assert value("neardup_storage_history_number") == 4
    assert value("neardup_storage_decisions_total", outcome="decided") == 3
    assert value("neardup_storage_decisions_total", outcome="duplicate") == 1
    assert value("neardup_storage_moves_total", cause="adopted") == 1
    assert value("neardup_storage_call_seconds_count", method="Apply") == 3
    assert value("neardup_storage_failed_calls_total", method="Apply", error="StaleError") == 1
    assert value("neardup_storage_batch_decisions_sum") == 4
    assert value("neardup_storage_look_up_images_sum") == 2
    assert value("neardup_storage_verdict_seconds_count") == 3
    assert value("neardup_storage_verdict_seconds_sum") == pytest.approx((3 * 1000 - 20 - 21 - 22) / 1000)
    assert value("neardup_storage_published_lag_entries") == 4


def test_rows_of_manifests_are_counted_by_themselves(served: Served) -> None:
    """Their heads and times are those of another system."""
    row = MemberRow("0f" * 16, 0, RowResult.ELSEWHERE_HEAD_GONE)
    served.client.apply(LOG, [founds(0, A, member=row), member(1, B, A), member(2, C, A)], -1, 0)
    for result, count in ((RowResult.ELSEWHERE_HEAD_GONE, 1), (RowResult.JOINED, 2), (RowResult.KEPT, 0)):
        assert served.value("neardup_storage_manifest_rows_total", result=result.value) == count
    assert served.value("neardup_storage_decisions_total", outcome="decided") == 3
    assert served.value("neardup_storage_verdict_seconds_count") == 0


def test_moves_from_a_forgotten_head_are_counted(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """No decision names them: the store gives these images another head. There may be a million of them, so the history
    is not read for that.
    """
    monkeypatch.setattr(served.store, "snapshot", None)
    served.client.apply(LOG, [founds(0, A), joins(1, B, A), joins(2, C, A)], -1, 0)
    served.client.apply(LOG, [forgets(3, A, A)], 2, 0)
    served.client.apply(LOG, [founds(4, D)], 3, 0)
    assert served.value("neardup_storage_moves_total", cause="renamed") == 2
    assert served.value("neardup_storage_moves_total", cause="deleted") == 1


def test_the_age_of_what_is_not_erased_is_a_metric() -> None:
    registry = CollectorRegistry()
    metrics = StorageMetrics(registry, MemoryStore().state(), 0, clock=lambda: 100.0)
    for oldest_ms, age_s in ((None, 0.0), (40_000, 60.0), (101_000, 0.0), (None, 0.0)):
        metrics.unerased(oldest_ms)
        assert registry.get_sample_value("neardup_storage_unerased_age_seconds") == age_s


def test_one_head_that_takes_many_images_is_seen(served: Served) -> None:
    head = ImageId("head")
    served.client.apply(LOG, [founds(0, head)], -1, 0)
    for first in range(1, 201, 50):
        batch = [
            decided(n, image, Move(image, None, head, Cause.MATCHED, 0.9, head)) if n % 2 else founds(n, image)
            for n, image in ((n, ImageId(f"i{n}")) for n in range(first, first + 50))
        ]
        served.client.apply(LOG, batch, first - 1, 0)
    assert served.value("neardup_storage_recent_head_share") == pytest.approx(101 / 201)


def test_a_selection_and_named_images_come_out_as_the_store_has_them(served: Served) -> None:
    fill(served.store, StoreModel(), seeded_actions(6, 300, ids=60), 50)
    with served.store.snapshot() as view:
        images = list(view.images())
        wanted = ImageSelection(
            since_ms=images[3].decided_at_ms, until_ms=images[0].decided_at_ms + 10**9, causes=frozenset(Cause)
        )
        for selection in (wanted, ImageSelection(), ImageSelection(head=images[0].head), ImageSelection(head=D)):
            pages = list(selected_pages(view, selection, MAX_NAMED))
            assert list(served.client.select(selection)) == pages
        ids = [image.image_id for image in reversed(images)]
        assert served.client.named([*ids, ImageId("nobody"), ids[0]]) == list(named_images(view, ids))
        assert len(ids) > 50
        assert served.client.named(ids, vectors=True) == list(named_images(view, ids, vectors=True))
        told = served.client.named(ids, triggers=True)
        assert told == list(named_images(view, ids, triggers=True))
        assert {each.trigger for each in told} == {Trigger.STREAM}


def test_more_images_than_a_call_takes_are_asked_for_in_several(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(served.store, StoreModel(), seeded_actions(6, 300, ids=60), 50)
    monkeypatch.setattr(client_module, "MAX_NAMED", 7)
    with served.store.snapshot() as view:
        ids = [image.image_id for image in view.images()]
    assert [each.image.image_id for each in served.client.named(ids)] == ids
    assert served.value("neardup_storage_call_seconds_count", method="Named") == -(-len(ids) // 7)


@pytest.mark.parametrize("vectors", [False, True])
def test_too_many_images_in_one_call_are_refused(served: Served, vectors: bool) -> None:
    stub = served.client._stub
    limit = 64 if vectors else 1024
    with pytest.raises(grpc.RpcError, match=f"at most {limit} images, not {limit + 1}"):
        stub.Named(pb.NamedRequest(image_ids=["a"] * (limit + 1), vectors=vectors))


def test_what_a_record_wrote_comes_over_the_wire(served: Served) -> None:
    fill(served.store, StoreModel(), seeded_actions(6, 300, ids=60), 50)
    with served.store.snapshot() as view:
        entries = list(view.history_from(0))
        others = [image.image_id for image in view.images()][:5]
        for entry in entries[::20]:
            told = served.client.written_at(entry.image_id, entry.offset, others)
            assert told == written_at(view, entry.image_id, entry.offset, others)
    with pytest.raises(grpc.RpcError, match="at most 8192 images, not 8193"):
        served.client._stub.WrittenAt(pb.WrittenAtRequest(image_id="a", others=["a"] * 8193))


@pytest.mark.parametrize("request_", [pb.SelectRequest(causes=["luck"]), pb.SelectRequest(since_ms=2, until_ms=1)])
def test_a_selection_that_means_nothing_is_refused(served: Served, request_: pb.SelectRequest) -> None:
    with pytest.raises(grpc.RpcError, match=r"luck|ends"):
        list(served.client._stub.Select(request_))


def test_few_selections_at_a_time_so_that_readers_leave_threads_to_the_stream() -> None:
    store = MemoryStore()
    store.apply(LOG, [founds(0, A)], -1, 0)
    service = StorageService(store, StorageMetrics(CollectorRegistry(), store.state(), 0))
    context = cast(grpc.ServicerContext, None)
    readers = [service.Select(pb.SelectRequest(), context) for _ in range(MAX_SELECTIONS + 1)]
    for reader in readers[:-1]:
        next(reader)
    with pytest.raises(BusyError, match="other selections"):
        next(readers[-1])
    readers[0].close()  # type: ignore[attr-defined]
    assert len(list(service.Select(pb.SelectRequest(), context))) == 1
