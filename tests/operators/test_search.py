"""The search step: what it asks of the search server and what it emits."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from crc32c import crc32c
from pyflink.common import Row

from core.dead_letters import BadRecord, Reason
from core.errors import DeadlineError, FaultError, LogGapError
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedRecord, JoinedReplay
from operators.batcher import BatchPolicy
from operators.in_flight_pb2 import InFlight
from operators.search import LogEpoch, SearchFunction, SearchStep
from operators.step import ServerAddress
from search.serving.search_pb2 import InsertAndSearchResponse, LogEntry
from tests.support.events import as_member, joined
from tests.support.fake_flink import Harness
from tests.support.fake_servers import FakeSearch
from tests.support.in_flight import handed_on

POLICY = BatchPolicy(max_items=4, max_faults=2)
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SERVER = ServerAddress("127.0.0.1:1", 1.0, 1_000_000)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeSearch:
    server = FakeSearch()
    monkeypatch.setattr("operators.search.open_search", lambda address: server)
    return server


def harness() -> Harness:
    return Harness(SearchFunction(POLICY, SERVER, LogEpoch("log-1"), sleep=lambda seconds: None))


def send(search: Harness, *payloads: bytes | None, first: int = 0) -> None:
    for offset, payload in enumerate(payloads, first):
        search.send(Row(payload, offset, TRACE))


def found(search: Harness) -> list[InFlight]:
    return handed_on(search.main)


def actions(entries: list[LogEntry]) -> list[tuple[int, Any]]:
    return [(entry.offset, entry.WhichOneof("action")) for entry in entries]


def test_a_batch_is_one_call_and_comes_back_in_order(server: FakeSearch) -> None:
    search = harness()
    payloads = [joined(f"image-{i}", seed=i) for i in range(4)]
    send(search, *payloads)
    assert [actions(call) for call in server.calls] == [[(i, "insert") for i in range(4)]]
    assert server.log_id == "log-1"
    assert [entry.checksum for entry in server.calls[0]] == [crc32c(payload) for payload in payloads]
    out = found(search)
    assert [(one.offset, one.checksum, one.record) for one in out] == [
        (i, crc32c(payload), payload) for i, payload in enumerate(payloads)
    ]
    assert [one.answer.place for one in out] == [0, 1, 2, 3]
    assert {one.index_version for one in out} == {"terms-1"}
    assert {one.traceparent for one in out} == {TRACE}


def test_duplicates_in_one_batch_find_the_earlier_one(server: FakeSearch) -> None:
    search = harness()
    send(search, joined("a", seed=1), joined("b", seed=1), joined("c", seed=1), joined("d", seed=2))
    assert [list(one.answer.candidates.image_ids) for one in found(search)] == [[], ["a"], ["a", "b"], []]


def test_an_unreadable_record_is_skipped_and_goes_on_with_the_reason(server: FakeSearch) -> None:
    search = harness()
    send(search, joined("a"), b"garbage\xff", None, joined("b", seed=1))
    assert actions(server.calls[0]) == [(0, "insert"), (1, "skip"), (2, "skip"), (3, "insert")]
    assert [bool(one.unscored) for one in found(search)] == [False, True, True, False]
    assert [one.unscored.partition(":")[0] for one in found(search)] == ["", "unparsable", "empty_payload", ""]
    assert search.context.metric("unscored_total{reason=unparsable}") == 1


def test_a_refused_image_is_skipped_and_the_rest_goes_on(server: FakeSearch) -> None:
    search = harness()
    server.refuses = {1}
    payloads = [joined(f"image-{i}", seed=i) for i in range(4)]
    send(search, *payloads)
    search.advance(100)
    assert [one.offset for one in found(search)] == [0, 1, 2, 3]
    assert [one.unscored[:7] for one in found(search)] == ["", "refused", "", ""]
    skip = next(call for call in server.calls if actions(call) == [(1, "skip")])[0].skip
    assert (skip.image_id, skip.image_version, skip.reason) == ("image-1", 1, "refused")
    assert (found(search)[1].record, found(search)[1].traceparent) == (payloads[1], TRACE)
    assert server.offset == 3


def test_a_row_of_a_manifest_is_inserted_and_not_searched_for(server: FakeSearch) -> None:
    search = harness()
    send(search, joined("a", seed=1), as_member(joined("b", seed=1), "h", 0), joined("c", seed=1))
    search.advance(100)
    assert [(one.WhichOneof("action"), one.unsearched) for one in server.calls[0]] == [
        ("insert", False),
        ("insert", True),
        ("insert", False),
    ]
    assert [list(one.answer.candidates.image_ids) for one in found(search)] == [[], [], ["a", "b"]]
    assert [(one.answer.place, one.unsearched) for one in found(search)] == [(0, False), (1, True), (2, False)]
    assert found(search)[1].answer.score_code


def test_a_row_that_the_index_refuses_goes_on_with_the_reason_however_often_it_comes(server: FakeSearch) -> None:
    search = harness()
    server.refuses = {1}
    row = as_member(joined("b", seed=1), "h", 0)
    send(search, joined("a", seed=1), row, row)
    search.advance(100)
    assert [one.unscored[:7] for one in found(search)] == ["", "refused", "refused"]
    assert [one.answer.place for one in found(search)] == [0, -1, -1]
    skip = next(call for call in server.calls if actions(call) == [(1, "skip")])[0].skip
    assert (skip.image_id, skip.image_version) == ("b", 1)


def test_an_image_that_broke_the_search_after_it_was_inserted_goes_on_unscored(server: FakeSearch) -> None:
    search = harness()

    def breaks(method: str) -> None:
        if method == "insert_and_search":
            raise FaultError("broken")

    server.after = breaks
    send(search, joined("a", seed=1))
    search.advance(1_000)
    assert server.offset == 0
    assert server.hidden == []  # assign hides it, once storage has it as unscored
    (one,) = found(search)
    assert one.unscored.startswith("faulted")
    assert one.answer.place == -1
    assert one.index_version == "terms-1"


@pytest.mark.parametrize("inserted", [False, True])
def test_an_image_that_alone_misses_every_deadline_goes_on_unscored(server: FakeSearch, inserted: bool) -> None:
    """The server answers other calls. Either the insert takes too long, or the search after it does."""

    def too_slow(method: str) -> None:
        if method == "insert_and_search" and any(
            entry.insert.image_id == "slow" for entry in server.calls[-1] if entry.WhichOneof("action") == "insert"
        ):
            raise DeadlineError("too slow")

    search = harness()
    inserts = server._apply
    server.after = too_slow
    if not inserted:

        def apply(entry: LogEntry) -> None:
            too_slow("insert_and_search")
            inserts(entry)

        server._apply = apply  # type: ignore[method-assign]
    send(search, joined("a", seed=1), joined("slow", seed=1), joined("b", seed=1))
    search.advance(120 * POLICY.backoff_max_ms)
    a, slow, b = found(search)
    assert (a.unscored, b.unscored) == ("", "")
    assert slow.unscored.startswith(f"{Reason.FAULTED}: ")
    assert f"({POLICY.max_misses} times)" in slow.unscored
    assert slow.answer.place == -1
    assert server.offset == 2
    assert ("slow" in {entry.image_id for entry in server.entries}) == inserted  # then assign hides it


def test_images_wait_for_a_search_server_that_lives_but_writes_nothing(server: FakeSearch) -> None:
    search = harness()

    def hangs(method: str) -> None:
        if method == "insert_and_search":
            raise DeadlineError("the disk hangs")

    server.before = hangs
    send(search, joined("a", seed=1))
    search.advance(500 * POLICY.backoff_max_ms)
    assert found(search) == []
    server.before = lambda method: None
    search.advance(2 * POLICY.backoff_max_ms)
    assert [one.unscored for one in found(search)] == [""]


def test_a_repeated_version_that_broke_the_search_is_not_sent_again(server: FakeSearch) -> None:
    server.log_id, server.offset = "log-1", 5
    step = SearchStep(server, "log-1", lambda reason: None)
    record = InFlight(offset=5, record=joined("a"))
    result = step.isolate(record.SerializeToString(), BadRecord(Reason.FAULTED, "broken"))
    assert result.count == 1
    assert server.calls == []


def test_a_record_that_the_index_skipped_before_stays_unscored(server: FakeSearch) -> None:
    search = harness()
    server.refuses = {0}
    send(search, joined("a"))
    search.advance(100)
    again = harness()  # started again at the same offset: storage may not have it
    server.refuses = set()
    send(again, joined("a"))
    again.advance(100)
    (one,) = found(again)
    assert one.unscored.startswith("refused: ")


def test_a_superseded_version_goes_on_without_a_reason(server: FakeSearch) -> None:
    search = harness()
    send(search, joined("a", version=2), joined("a", version=1))
    search.advance(10)
    assert [one.answer.superseded for one in found(search)] == [False, True]
    assert [one.unscored for one in found(search)] == ["", ""]


def test_repeating_a_call_gives_the_same_answers(server: FakeSearch) -> None:
    payloads = [joined(f"image-{i}", seed=i % 2) for i in range(4)]
    first, again = harness(), harness()
    send(first, *payloads)
    send(first, *[joined(f"later-{i}", seed=i % 2) for i in range(4)], first=4)
    send(again, *payloads)
    assert found(first)[:4] == found(again)


def test_too_few_answers_are_a_fault(server: FakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "insert_and_search", lambda log_id, entries, base: InsertAndSearchResponse())
    search = harness()
    send(search, joined("a"))
    search.advance(6)
    assert search.context.metric("failures_total{kind=fault}") == 1
    assert search.main == []


def test_a_gap_fails_the_job(server: FakeSearch) -> None:
    search = harness()
    send(search, joined("a"), first=3)
    with pytest.raises(LogGapError, match="LogGapError"):
        search.advance(10)


def test_survives_a_pickle_round_trip(server: FakeSearch) -> None:
    again = Harness(pickle.loads(pickle.dumps(SearchFunction(POLICY, SERVER, LogEpoch("log-1")))))
    send(again, *[joined(f"image-{i}") for i in range(4)])
    assert len(found(again)) == 4
    again.function.close()
    assert server.closed


def deletes(image_id: str) -> bytes:
    return JoinedRecord(delete=JoinedDelete(image_id=image_id)).SerializeToString()


def replays(image_id: str, *, dry_run: bool = False, model_version: str = "") -> bytes:
    carried = decode_joined(joined(image_id))
    assert isinstance(carried, JoinedImage)
    replay = JoinedReplay(image_id=image_id, dry_run=dry_run, model_version=model_version, image=carried)
    return JoinedRecord(replay=replay).SerializeToString()


def test_deletes_and_replays_are_applied_in_the_order(server: FakeSearch) -> None:
    search = harness()
    send(search, joined("a"), replays("a"), deletes("a"), replays("a"))
    assert actions(server.calls[0]) == [(0, "insert"), (1, "replay"), (2, "remove"), (3, "replay")]
    assert [(one.answer.place, one.answer.deleted, one.unscored) for one in found(search)] == [
        (0, False, ""),
        (0, False, ""),
        (-1, False, ""),
        (-1, True, ""),
    ]


def test_a_dry_run_leaves_the_index_as_it_is_and_says_which_model_scores(server: FakeSearch) -> None:
    search = harness()
    send(search, replays("a", dry_run=True, model_version="m-9"), replays("b"), joined("c"), joined("d"))
    assert [one.answer.place for one in found(search)] == [-1, 1, 2, 3]
    assert [one.score_with for one in found(search)] == ["m-9", "", "", ""]


def test_a_delete_is_never_skipped(server: FakeSearch) -> None:
    search = harness()
    send(search, joined("a"))
    search.advance(10)
    broken = {"left": 5}

    def breaks(method: str) -> None:
        if method == "insert_and_search" and broken["left"] and server.calls and server.calls[-1]:
            broken["left"] -= 1
            raise FaultError("broken")

    server.after = breaks
    send(search, deletes("a"), first=1)
    search.advance(5_000)
    assert not broken["left"]
    assert all(("skip" not in [action for _, action in actions(call)]) for call in server.calls)
    assert server.in_sight() == set()
    assert found(search)[-1].unscored == ""


def test_a_replay_that_broke_the_search_may_have_placed_its_image(server: FakeSearch) -> None:
    step = SearchStep(server, "log-1", lambda reason: None)
    (item,) = harness().function.items(Row(replays("a"), 0, None))
    step.call([item])
    (one,) = handed_on(step.isolate(item, BadRecord(Reason.FAULTED, "broken")).outputs)
    assert (one.answer.place, one.answer.image_version, one.unscored) == (0, 1, "faulted: broken")
    (later,) = harness().function.items(Row(replays("b"), 1, None))
    (one,) = handed_on(step.isolate(later, BadRecord(Reason.FAULTED, "broken")).outputs)
    assert (one.answer.place, actions(server.calls[-1])) == (-1, [(1, "skip")])
    assert server.calls[-1][0].skip.image_id == "", "a skipped replay places no version"


def test_a_version_that_a_later_replay_has_placed_was_skipped_as_of_its_record(server: FakeSearch) -> None:
    step = SearchStep(server, "log-1", lambda reason: None)
    function = harness().function
    items = [function.items(Row(payload, at, None))[0] for at, payload in enumerate((joined("a"), replays("a")))]
    step.isolate(items[0], BadRecord(Reason.FAULTED, "broken"))
    step.call([items[1]])
    first, second = handed_on(step.call(items).outputs)
    assert (first.answer.place, first.unscored.partition(":")[0]) == (-1, "refused")
    assert (second.answer.place, second.unscored) == (1, "")
