"""Traces of the sequence: who gets one, what it says, and that none is missing after failures and restarts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pyflink.common import Row

from core.errors import DeadlineError, FaultError, MismatchError, UnavailableError
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedMember, JoinedRecord, JoinedReplay, Origin
from core.trace_policy import TracePolicy
from core.traces import (
    Adoption,
    Choice,
    HistoryRange,
    LossReason,
    Trace,
    TracedHalf,
    TracedRow,
    TraceKind,
    TraceReason,
    Why,
    parse_trace,
)
from core.types import Cause, Outcome
from operators.assign import AssignFunction
from operators.batcher import BatchPolicy
from operators.in_flight_pb2 import InFlight, Scores
from operators.outputs import TRACES
from operators.score import ScoreFunction
from operators.search import LogEpoch, SearchFunction
from operators.step import ServerAddress
from operators.tracer import Tracing
from operators.tracing import TraceStamp, step_trace, trace_reason
from search.serving.search_pb2 import Answer, Candidates, Terms
from tests.support.clock import FakeClock
from tests.support.events import MANIFEST, as_member, joined
from tests.support.fake_flink import Harness
from tests.support.fake_servers import FakeScorer, FakeSearch, FakeStorage

SERVER = ServerAddress("127.0.0.1:1", 1.0, 1_000_000)
LOG = LogEpoch("log-1")
SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STAMP = TraceStamp("settings-1", "0.2.0")
POLICY = BatchPolicy(max_items=64, max_faults=2)


class TracedSequence:
    """The three functions on fake Flink, and the traces that they have put out."""

    def __init__(self, policy: TracePolicy) -> None:
        self.clock = FakeClock()
        self.search, self.scorer, self.storage = FakeSearch(k=3), FakeScorer(), FakeStorage()
        tracing = Tracing(policy, STAMP)
        self._makers = [
            lambda: SearchFunction(POLICY, SERVER, LOG, tracing=tracing, sleep=self.clock.sleep_s),
            lambda: ScoreFunction(POLICY, SERVER, SERVER, tracing, self.clock.sleep_s),
            lambda: AssignFunction(POLICY, SERVER, SERVER, SERVER, LOG, tracing, self.clock.sleep_s),
        ]
        self.rows: list[Row] = []

    def open(self) -> None:
        """Once the clients can be opened."""
        self.steps = [Harness(make(), self.clock) for make in self._makers]

    def send(self, *payloads: bytes, first: int = 0, traceparent: bytes | None = None) -> None:
        for offset, payload in enumerate(payloads, first):
            self.steps[0].send(Row(payload, offset, traceparent))
        self.advance(20)

    def advance(self, ms: int) -> None:
        for _ in range(ms):
            for step, following in zip(self.steps, [*self.steps[1:], None], strict=True):
                step.advance(0)
                rows, step.main = step.main, []
                for row in rows:
                    assert following is not None
                    following.send(row[1])
                self.rows += step.side.pop(TRACES.tag_id, [])
            self.clock.advance(1)

    def crash(self, offset: int) -> None:
        """All state is that of the last checkpoint, before anything came in: the source reads from there again."""
        self.steps = [step.restart(make()) for step, make in zip(self.steps, self._makers, strict=True)]
        assert offset == 0
        self.rows.clear()

    def traces(self) -> list[Trace]:
        traces = [parse_trace(row[1]) for row in self.rows]
        assert [row[0] for row in self.rows] == [trace.image_id.encode() for trace in traces]
        return traces


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[[TracePolicy], TracedSequence]:
    """Makes a sequence whose functions find its servers when they open their clients."""

    def connected(policy: TracePolicy) -> TracedSequence:
        sequence = TracedSequence(policy)
        servers = {"search": sequence.search, "scorer": sequence.scorer, "storage": sequence.storage}
        for module in ("search", "score", "assign"):
            for name, server in servers.items():
                target = f"operators.{module}.open_{name}"
                monkeypatch.setattr(target, lambda address, server=server: server, raising=False)
        sequence.open()
        return sequence

    return connected


Build = Callable[[TracePolicy], TracedSequence]


def flagged(image_id: str, seed: int) -> bytes:
    """A joined record whose producer asks for a trace."""
    record = JoinedRecord.FromString(joined(image_id, seed=seed))
    record.image.trace = True
    return record.SerializeToString(deterministic=True)


def test_nobody_is_traced_who_does_not_ask(build: Build) -> None:
    sequence = build(TracePolicy())
    sequence.send(joined("a", seed=1), joined("b", seed=1))
    assert sequence.storage.store.position().offset == 1
    assert sequence.rows == []


def test_a_flag_brings_everything_that_the_verdict_rests_on(build: Build) -> None:
    sequence = build(TracePolicy())
    sequence.send(joined("a", seed=1), flagged("b", 1))
    (trace,) = sequence.traces()
    assert (trace.image_id, trace.kind, trace.reason, trace.position, trace.place) == ("b", "image", "flag", 1, 1)
    assert (trace.outcome, trace.cause, trace.version) == (Outcome.DECIDED, Cause.MATCHED, 1)
    assert trace.halves == (
        TracedHalf("search", 0, 2, 1_700_000_000_000),
        TracedHalf("score", 0, 3, 1_700_000_000_500),
    )
    assert trace.join_wait_ms == 500
    assert trace.terms is not None
    assert trace.terms.count == 16
    assert trace.search is not None
    assert (trace.search.found, trace.search.pages, trace.search.exhausted) == (1, 0, True)
    assert trace.thresholds is not None
    assert trace.thresholds.accept == 0.7
    assert trace.choice is not None
    assert (trace.choice.head, trace.choice.matched, trace.choice.why) == ("a", "a", Why.MATCHED)
    (candidate,) = trace.candidates
    assert (candidate.image_id, candidate.score, candidate.head, candidate.lost) == ("a", 1.0, "a", None)
    assert trace.writes is not None
    assert (trace.writes.first, trace.writes.last) == (2, 2)
    assert (trace.versions.model, trace.versions.index) == ("model-1", "terms-1")
    assert (trace.versions.settings, trace.versions.code) == ("settings-1", "0.2.0")
    assert not trace.repeated


def test_the_history_numbers_are_those_that_storage_wrote(build: Build) -> None:
    sequence = build(TracePolicy(share=1.0))
    sequence.send(*[joined(f"image-{number}", seed=number // 3) for number in range(12)])
    with sequence.storage.store.snapshot() as view:
        entries = {entry.number: entry for entry in view.history(0, 100)}
    traces = sequence.traces()
    assert len(traces) == 12
    for trace in traces:
        assert trace.writes is not None
        numbers = range(trace.writes.first, trace.writes.last + 1)
        assert entries[numbers[0]].image_id == trace.image_id
        assert {entries[number].offset for number in numbers} == {trace.position}
    assert sum(trace.writes.last - trace.writes.first + 1 for trace in traces if trace.writes) == len(entries)


def test_the_steps_say_when_a_record_came_and_how_often_it_was_tried(build: Build) -> None:
    sequence = build(TracePolicy(share=1.0))
    fails = iter([True])

    def before(method: str) -> None:
        if method == "score" and next(fails, False):
            raise UnavailableError("not yet")

    sequence.scorer.before = before
    began = sequence.clock()
    sequence.send(joined("a", seed=1))
    sequence.advance(3_000)
    (trace,) = sequence.traces()
    assert [step.name for step in trace.steps] == ["search", "score", "assign"]
    assert [step.tries for step in trace.steps] == [1, 2, 1]
    times = [time for step in trace.steps for time in (step.entered_ms, step.left_ms)]
    assert times == sorted(times)
    assert times[0] == began
    assert trace.steps[1].left_ms - trace.steps[1].entered_ms >= POLICY.backoff_first_ms


@pytest.mark.parametrize(("traceparent", "count"), [(SAMPLED, 1), (SAMPLED[:-1] + b"0", 0), (None, 0), (b"rubbish", 0)])
def test_the_header_asks(build: Build, traceparent: bytes | None, count: int) -> None:
    sequence = build(TracePolicy())
    sequence.send(joined("a", seed=1), traceparent=traceparent)
    assert [trace.reason for trace in sequence.traces()] == [TraceReason.HEADER] * count
    assert [row[2] for row in sequence.rows] == [traceparent] * count


def test_an_image_that_ends_badly_is_traced_unasked(build: Build) -> None:
    sequence = build(TracePolicy())
    sequence.search.refuses = {1}
    sequence.send(joined("a", seed=1), joined("b", seed=1), b"\xff\xff")
    traces = sequence.traces()
    assert [(trace.image_id, trace.position, trace.reason) for trace in traces] == [
        ("b", 1, TraceReason.UNSCORED),
        ("", 2, TraceReason.UNSCORED),
    ]
    assert traces[0].choice is not None
    assert (traces[0].choice.head, traces[0].choice.why, traces[0].cause) == ("b", Why.UNSCORED, Cause.UNSCORED)
    assert traces[0].unscored == "refused: its vector is bad"
    assert traces[0].candidates == ()
    assert (traces[1].outcome, traces[1].choice, traces[1].cause) == (Outcome.UNREADABLE, None, None)


def test_a_trace_that_cannot_be_made_holds_up_nothing(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no reason")

    sequence = build(TracePolicy(share=1.0))
    monkeypatch.setattr("operators.tracing.explain", broken)
    sequence.send(joined("a", seed=1), joined("b", seed=1))
    assert sequence.storage.store.position().offset == 1
    assert sequence.rows == []
    assert "the record at position 1 gets no trace" in caplog.text


def test_a_duplicate_is_traced_without_a_choice(build: Build) -> None:
    sequence = build(TracePolicy(share=1.0))
    sequence.send(joined("a", seed=1), joined("a", seed=1))
    _, second = sequence.traces()
    assert (second.outcome, second.choice, second.writes, second.place) == (Outcome.DUPLICATE, None, None, 0)


def untimed(trace: Trace) -> Trace:
    """The trace without what differs between two tries."""
    return replace(trace, steps=(), decided_at_ms=0, repeated=False)


def test_a_write_whose_answer_is_lost_is_traced_from_the_history(build: Build) -> None:
    sequence = build(TracePolicy(share=1.0))
    fails = iter([False, True])

    def after(method: str) -> None:
        if method == "apply" and next(fails, False):
            raise UnavailableError("the answer is lost")

    sequence.storage.after = after
    sequence.send(joined("a", seed=1))
    sequence.send(joined("b", seed=1), first=1)
    sequence.advance(3_000)
    first, second = sequence.traces()
    assert not first.repeated
    assert second.repeated
    assert second.choice is not None
    assert (second.choice.head, second.choice.matched, second.choice.why) == ("a", "a", Why.MATCHED)
    assert (second.outcome, second.cause, second.place) == (Outcome.DECIDED, Cause.MATCHED, 1)
    assert [one.lost for one in second.candidates] == [None]
    assert second.writes == HistoryRange(2, 2)
    assert second.decided_at_ms > 0


def test_after_a_crash_every_trace_since_the_checkpoint_comes_again_and_is_complete(build: Build) -> None:
    sequence = build(TracePolicy(share=1.0))
    sequence.search.refuses = {4}
    records = [joined(f"image-{number}", seed=number // 3) for number in range(8)]
    records += [joined("image-1", seed=0), b"\xff\xff", joined("image-2", seed=0, version=2)]
    sequence.send(*records)
    before = {trace.position: trace for trace in sequence.traces()}
    sequence.crash(0)
    sequence.send(*records)
    sequence.send(joined("later", seed=0), first=len(records))
    after = {trace.position: trace for trace in sequence.traces()}
    assert after.keys() == {*range(len(records) + 1)}
    for position, trace in before.items():
        assert after[position].repeated
        assert untimed(after[position]) == untimed(trace)
        assert after[position].decided_at_ms == trace.decided_at_ms or trace.writes is None
    assert not after[len(records)].repeated


def pictured(image_id: str, other_terms: int, other_bits: int) -> bytes:
    """A joined record of which so many terms, counted from the front, and so many bits of the code are not set."""
    record = JoinedRecord.FromString(joined(image_id))
    record.image.search_vector = np.array([-1] * other_terms + [1] * (16 - other_terms), "<f2").tobytes()
    record.image.score_vector = np.array([-1] * other_bits + [1] * (8 - other_bits), "<f2").tobytes()
    return record.SerializeToString()


def test_a_trace_tells_of_candidates_beyond_the_gate(build: Build) -> None:
    """`b` is three bits away from `a` and `c`, which the model could not accept."""
    sequence = build(TracePolicy(share=1.0))
    sequence.search.nearest, sequence.scorer.gate = True, 2
    sequence.send(pictured("a", 0, 0), pictured("b", 0, 3), pictured("c", 0, 0))
    trace = sequence.traces()[2]
    assert [(one.image_id, one.score, one.distance, one.lost) for one in trace.candidates] == [
        ("a", 1.0, 0, None),
        ("b", None, 3, LossReason.BEYOND_GATE),
    ]
    assert trace.gate == 2
    assert trace.search is not None
    assert trace.search.found == 2


def test_a_truncated_search_keeps_its_losers_for_the_trace_that_it_gets(build: Build) -> None:
    sequence = build(TracePolicy())
    sequence.search.truncates = True
    sequence.send(pictured("a", 0, 0), pictured("b", 0, 8))
    first, second = sequence.traces()
    assert (first.reason, second.reason) == (TraceReason.TRUNCATED, TraceReason.TRUNCATED)
    assert [(one.image_id, one.score, one.lost) for one in second.candidates] == [("a", 0.0, LossReason.BELOW_ACCEPT)]


def test_a_repeated_trace_says_what_was_so_before_its_verdict(build: Build) -> None:
    """`a` and `b` share too few terms, then `c` joins `a` and takes `b` along, then `a` is deleted."""
    sequence = build(TracePolicy(share=1.0))
    records = [pictured("a", 0, 0), pictured("b", 6, 2), pictured("c", 3, 1), pictured("d", 3, 2)]
    records += [JoinedRecord(delete=JoinedDelete(image_id="a", trace=True)).SerializeToString()]
    sequence.send(*records)
    before = sequence.traces()
    assert [one.adoption for one in before[2].candidates] == [None, Adoption.ADOPTED]
    assert [one.head for one in before[2].candidates] == ["a", "b"]
    sequence.crash(0)
    sequence.send(*records)
    after = sequence.traces()
    assert all(trace.repeated for trace in after)
    assert list(map(untimed, after)) == list(map(untimed, before))


@pytest.mark.parametrize("error", [FaultError("a bug"), DeadlineError("too slow"), MismatchError("contradiction")])
def test_a_trace_that_storage_cannot_complete_holds_up_nothing(
    build: Build, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    sequence = build(TracePolicy(share=1.0))
    records = [joined("a", seed=1), joined("b", seed=1)]
    sequence.send(*records)
    sequence.crash(0)

    def before(method: str) -> None:
        if method == "written_at":
            raise error

    sequence.storage.before = before
    sequence.send(*records)
    sequence.send(joined("c", seed=1), first=2)
    assert sequence.storage.store.position().offset == 2
    assert [(trace.image_id, trace.choice is None) for trace in sequence.traces()] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]
    assert "the trace of the record at position 1 lacks what storage has recorded" in caplog.text


def test_repeated_traces_wait_for_a_storage_that_is_down(build: Build) -> None:
    sequence = build(TracePolicy(share=1.0))
    sequence.send(joined("a", seed=1))
    sequence.crash(0)
    fails = iter([True])

    def before(method: str) -> None:
        if method == "written_at" and next(fails, False):
            raise UnavailableError("connection refused")

    sequence.storage.before = before
    sequence.send(joined("a", seed=1))
    assert sequence.rows == []
    sequence.advance(3_000)
    (trace,) = sequence.traces()
    assert (trace.repeated, trace.choice is not None) == (True, True)


def replayed(image_id: str, offset: int, **fields: bool) -> bytes:
    """A replay whose request lies at an offset of the topic `replay`."""
    origin = Origin(topic_id="replay-topic", partition=0, offset=offset, request_id="r-1")
    return JoinedRecord(replay=JoinedReplay(image_id=image_id, origin=origin, **fields)).SerializeToString()


def test_a_replay_is_traced_whatever_it_changes(build: Build) -> None:
    sequence = build(TracePolicy())
    sequence.send(joined("a", seed=1), joined("b", seed=1))
    sequence.send(
        replayed("b", 0, force=True), replayed("b", 1, force=True, dry_run=True, watch=True), replayed("b", 2), first=2
    )
    verdicts = [trace for trace in sequence.traces() if trace.kind == TraceKind.REPLAY]
    assert [(trace.position, trace.outcome, trace.reason) for trace in verdicts] == [
        (position, Outcome.REPLAYED, TraceReason.REPLAY) for position in (2, 3, 4)
    ]
    forced, tried, passed = verdicts
    assert (forced.request_id, forced.place, forced.version) == ("r-1", 1, 1)
    for trace in (forced, tried):
        assert trace.choice is not None
        assert (trace.choice.head, trace.choice.matched, trace.choice.why) == ("a", "a", Why.MATCHED)
    assert forced.writes is not None
    assert (tried.dry_run, tried.writes, passed.writes) == (True, None, None)
    steps = [trace for trace in sequence.traces() if trace.kind == TraceKind.STEP]
    assert [(trace.position, step.name) for trace in steps for step in trace.steps] == [(3, "search"), (3, "score")]


def test_a_delete_is_traced_if_it_asks(build: Build) -> None:
    sequence = build(TracePolicy())
    delete = JoinedRecord(delete=JoinedDelete(image_id="a", trace=True, origin=Origin(request_id="d-1")))
    sequence.send(joined("a", seed=1), delete.SerializeToString())
    (trace,) = sequence.traces()
    assert (trace.kind, trace.outcome, trace.cause) == ("delete", Outcome.DELETED, Cause.DELETED)
    assert trace.request_id == "d-1"
    assert (trace.choice, trace.candidates) == (None, ())
    assert trace.writes is not None
    assert (trace.writes.first, trace.writes.last) == (2, 2)


def test_a_row_of_a_manifest_is_traced_with_what_gave_its_head(build: Build) -> None:
    sequence = build(TracePolicy(share=1.0))
    records = [joined("a", seed=1), as_member(joined("b", seed=1), "a", 7, score=0.5, model_version="old")]
    records += [as_member(joined("c", seed=1), "gone", 8), as_member(joined("b", seed=1), "c", 9)]
    sequence.send(*records)
    first, second, third, again = sequence.traces()
    assert first.row is None
    assert second.row == TracedRow(MANIFEST, 7, "a", "joined")
    assert (second.cause, second.candidates, second.search, second.thresholds) == (Cause.BOOTSTRAPPED, (), None, None)
    assert second.choice == Choice("a", None, "a", 0.5, None, Why.BOOTSTRAPPED)
    assert (second.version, second.versions.model) == (1, "old")
    assert third.row == TracedRow(MANIFEST, 8, "gone", "elsewhere_head_gone")
    assert third.choice is not None
    assert third.choice.why == Why.NOT_BOOTSTRAPPED
    assert (again.row, again.outcome, again.choice) == (
        TracedRow(MANIFEST, 9, "c", "kept"),
        Outcome.DUPLICATE,
        None,
    )
    sequence.crash(0)
    sequence.send(*records)
    for before, after in zip((second, third, again), sequence.traces()[1:], strict=True):
        assert before.row is not None
        assert untimed(after) == untimed(replace(before, row=replace(before.row, result=None)))


def test_a_row_is_traced_as_an_image_is() -> None:
    member = JoinedMember(image=JoinedImage(image_id="a"))
    assert trace_reason(member, b"", TracePolicy()) is None
    member.image.trace = True
    assert trace_reason(member, b"", TracePolicy()) is TraceReason.FLAG


def test_deletes_and_replays_ask_in_their_own_way() -> None:
    replay, delete = JoinedReplay(image_id="a"), JoinedDelete(image_id="a")
    assert trace_reason(replay, b"", TracePolicy()) is TraceReason.REPLAY
    assert trace_reason(delete, b"", TracePolicy(share=1.0)) is None
    assert trace_reason(JoinedDelete(image_id="a", trace=True), b"", TracePolicy()) is TraceReason.FLAG


@pytest.mark.parametrize("watch", [True, False])
def test_a_watched_replay_leaves_a_trace_at_each_step(watch: bool) -> None:
    replay = JoinedReplay(image_id="a", watch=watch, dry_run=True, origin=Origin(request_id="r-1"))
    one = InFlight(
        offset=9,
        record=JoinedRecord(replay=replay).SerializeToString(),
        traced="replay",
        answer=Answer(
            place=3,
            score_code=b"c",
            image_version=4,
            terms=Terms(values=b"abcdefgh"),
            candidates=Candidates(
                image_ids=["b"], overlaps=b"\x02\x00", places=bytes(8), score_codes=b"d", exhausted=True
            ),
        ),
    )
    found = step_trace("search", one, STAMP)
    one.scores.CopyFrom(Scores(model_version="model-1", values=b"\x00\x00\x00\x3f"))
    scored = step_trace("score", one, STAMP)
    if not watch:
        assert found is scored is None
        return
    assert found is not None
    assert scored is not None
    assert (found.kind, found.place, found.version, found.request_id, found.dry_run) == ("step", 3, 4, "r-1", True)
    assert [one.score for one in (*found.candidates, *scored.candidates)] == [None, 0.5]
    assert found.outcome is found.choice is None


def test_a_trace_that_cannot_be_written_holds_up_nothing(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("no JSON")

    sequence = build(TracePolicy(share=1.0))
    monkeypatch.setattr("operators.tracer.trace_json", broken)
    sequence.send(joined("a", seed=1), replayed("a", 0, watch=True))
    assert sequence.storage.store.position().offset == 1
    assert sequence.rows == []
    assert "the record at position 0 gets no trace" in caplog.text


def test_a_step_that_cannot_be_told_holds_up_nothing(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no step")

    sequence = build(TracePolicy())
    monkeypatch.setattr("operators.tracer.step_trace", broken)
    sequence.send(joined("a", seed=1), replayed("a", 0, watch=True))
    assert sequence.storage.store.position().offset == 1
    assert "the record at position 1 gets no trace" in caplog.text
