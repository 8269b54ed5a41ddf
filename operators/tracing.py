"""Which records of the order are traced, and their traces. Pure.

Search decides who is traced, as far as that is known before the verdict, and each step adds its times to every record.
Assign makes the trace once the verdict is written. A trace goes to the sink with the same element that wrote the
verdict, and a checkpoint completes only after the sink has sent it. After a crash Flink repeats the elements since the
last checkpoint: then storage has the verdict already, and the trace is made from the history (`repeated`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Literal

from clustering.arrivals import Arrival, Deleting, Joining, Replaying
from clustering.explain import Explanation, explain
from clustering.planning import Judgement
from clustering.recorded import recorded_judgement
from core.dead_letters import BadRecord
from core.errors import DeadlineError, UnavailableError
from core.manifest_rows import MemberRow
from core.notifications import JoinedContent, decode_joined, image_id_of
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedMember, JoinedReplay
from core.scores import shortest
from core.trace_policy import TracePolicy
from core.traces import (
    HistoryRange,
    Trace,
    TracedCandidate,
    TracedHalf,
    TracedRow,
    TracedSearch,
    TracedStep,
    TracedVersions,
    TraceKind,
    TraceReason,
    traced_terms,
)
from core.types import Decision, ImageId, Outcome, Thresholds, Written
from operators.in_flight_pb2 import InFlight, StepTime
from operators.item_times import Timing
from operators.responses import candidates, first_scores

__all__ = ["BatchTracer", "ReadWritten", "TraceStamp", "step_trace", "trace_reason"]

log = logging.getLogger(__name__)

ReadWritten = Callable[[ImageId, int, Sequence[ImageId]], Written]
"""What the record of an image at a position wrote, and what was so before of the image and of others."""


@dataclass(frozen=True, slots=True)
class TraceStamp:
    """What every trace of a job says: the fingerprint of the signal's settings, and the release of the code."""

    settings: str = ""
    code: str = ""


def trace_reason(content: JoinedContent | BadRecord, traceparent: bytes, policy: TracePolicy) -> TraceReason | None:
    """Why a record is traced, before anything is known of its end; None if it is not."""
    match content:
        case JoinedImage() | JoinedMember():
            image = content.image if isinstance(content, JoinedMember) else content
            return policy.reason(image.image_id, flag=image.trace, traceparent=traceparent)
        case JoinedReplay():
            return TraceReason.REPLAY
        case JoinedDelete() if content.trace:
            return TraceReason.FLAG
        case _:
            return None


def step_trace(step: Literal["search", "score"], one: InFlight, stamp: TraceStamp) -> Trace | None:
    """The trace of a watched replay that leaves search or score now; None for any other record."""
    if one.traced != TraceReason.REPLAY:
        return None
    content = decode_joined(one.record)
    if not isinstance(content, JoinedReplay) or not content.watch:
        return None
    found = candidates(one.answer.candidates)
    scored = first_scores(one.scores.values, len(found), _gate(one)) if one.HasField("scores") else ()
    listed = tuple(
        TracedCandidate(each.image_id, each.place, each.overlap, score, distance=each.distance)
        for each, score in zip(found, chain(scored, repeat(None)), strict=False)
    )
    trace = _base(one, content, TraceReason.REPLAY, stamp)
    return replace(
        trace,
        kind=TraceKind.STEP,
        version=one.answer.image_version,
        place=one.answer.place,
        candidates=listed,
        search=_search(one, len(found)),
        steps=tuple(each for each in trace.steps if each.name == step),
    )


class BatchTracer:
    """Notes the traces of a batch while `clustering.assignment.assign` commits it."""

    def __init__(
        self,
        batch: Sequence[InFlight],
        timing: Timing,
        written: Callable[[Decision], HistoryRange | None],
        stamp: TraceStamp,
    ) -> None:
        """Takes the batch.

        Args:
            batch: Consecutive records.
            timing: Of them, at this step.
            written: The history numbers of a decision of the last write.
            stamp: What every trace says.
        """
        self._batch = batch
        self._timing = timing
        self._written = written
        self._stamp = stamp
        self._traces: list[Trace] = []
        self._repeated: list[tuple[Trace, Arrival]] = []

    def committed(self, arrival: Arrival, decision: Decision | None, judgement: Judgement | None) -> None:
        """See `clustering.assignment.Committed`. A trace that cannot be made is logged: verdicts do not wait for it."""
        try:
            self._note(arrival, decision, judgement)
        except Exception:
            log.exception("the record at position %d gets no trace", arrival.offset)

    def _note(self, arrival: Arrival, decision: Decision | None, judgement: Judgement | None) -> None:
        row = arrival.offset - self._batch[0].offset
        one = self._batch[row]
        reason = one.traced or _bad_end(arrival)
        if not reason:
            return
        trace = _verdict(one, arrival, TraceReason(reason), self._stamp)
        trace = replace(trace, steps=(*trace.steps, _step("assign", self._timing.of(row))))
        if decision is None:
            self._repeated.append((replace(trace, repeated=True), arrival))
            return
        self._traces.append(
            replace(
                _decided(trace, arrival, decision, judgement),
                version=decision.version,
                place=decision.place,
                decided_at_ms=decision.decided_at_ms,
                writes=self._written(decision),
            )
        )

    def traces(self, written_at: ReadWritten) -> Sequence[Trace]:
        """The traces of the batch, in no order.

        Args:
            written_at: Tells what records wrote that storage had already.

        Raises:
            UnavailableError: It does not answer. The batch can be repeated: storage has its verdicts.
        """
        return [*(_repeated(trace, arrival, written_at) for trace, arrival in self._repeated), *self._traces]


def _bad_end(arrival: Arrival) -> TraceReason | None:
    if arrival.unscored:
        return TraceReason.UNSCORED
    return TraceReason.TRUNCATED if arrival.truncated else None


def _base(one: InFlight, content: JoinedContent | BadRecord, reason: TraceReason, stamp: TraceStamp) -> Trace:
    """What is known of a record without its verdict."""
    trace = Trace(
        kind=TraceKind.IMAGE,
        image_id="" if isinstance(content, BadRecord) else image_id_of(content),
        version=0,
        position=one.offset,
        place=-1,
        outcome=None,
        cause=None,
        reason=reason,
        terms=traced_terms(one.answer.terms.values),
        thresholds=_thresholds(one),
        gate=_gate(one),
        unscored=one.unscored or None,
        versions=TracedVersions(one.scores.model_version, one.index_version, stamp.settings, stamp.code),
        steps=tuple(_step(name, time) for name, time in _times(one)),
    )
    match content:
        case JoinedImage():
            return replace(
                trace,
                version=content.image_version,
                created_at_ms=content.created_at_ms,
                arrived_at_ms=content.arrived_at_ms,
                halves=_halves(content),
                join_wait_ms=_join_wait_ms(content),
            )
        case JoinedMember():
            image = content.image
            row = TracedRow(content.manifest_id, content.row, content.head)
            return replace(
                trace,
                version=image.image_version,
                created_at_ms=image.created_at_ms,
                arrived_at_ms=image.arrived_at_ms,
                row=row,
                versions=replace(trace.versions, model=content.model_version),
            )
        case JoinedReplay():
            request = content.origin.request_id or None
            return replace(trace, kind=TraceKind.REPLAY, request_id=request, dry_run=content.dry_run)
        case JoinedDelete():
            return replace(trace, kind=TraceKind.DELETE, request_id=content.origin.request_id or None)
        case _:
            return trace


def _verdict(one: InFlight, arrival: Arrival, reason: TraceReason, stamp: TraceStamp) -> Trace:
    trace = _base(one, decode_joined(one.record), reason, stamp)
    return replace(trace, search=None if arrival.unscored else _search(one, arrival.next_candidate))


def _explained(trace: Trace, explained: Explanation) -> Trace:
    search = trace.search and replace(
        trace.search, found=len(explained.candidates), pages=explained.pages, exhausted=explained.exhausted
    )
    return replace(
        trace,
        search=search,
        candidates=explained.candidates,
        choice=explained.choice,
        adopted=explained.adopted,
    )


def _decided(trace: Trace, arrival: Arrival, decision: Decision, judgement: Judgement | None) -> Trace:
    """The trace with what was decided, written or not."""
    verdict = decision.moves if judgement is None else judgement.verdict.moves
    return replace(
        _explained(trace, explain(arrival, decision, judgement)),
        outcome=decision.outcome,
        cause=verdict[0].cause if verdict else None,
        row=_told(trace.row, decision.member),
    )


def _told(row: TracedRow | None, member: MemberRow | None) -> TracedRow | None:
    """A row, with what became of it if that is known."""
    return row if row is None or member is None else replace(row, result=member.result)


def _repeated(trace: Trace, arrival: Arrival, written_at: ReadWritten) -> Trace:
    """The trace of a record that storage had already, as far as it can be told. Verdicts never wait for it."""
    if not arrival.image_id:
        return replace(trace, outcome=Outcome.UNREADABLE, place=arrival.offset)
    try:
        matched = [match.candidate.image_id for match in arrival.matches]
        written = written_at(arrival.image_id, arrival.offset, matched)
        return _recorded(trace, arrival, written)
    except Exception as error:
        if isinstance(error, UnavailableError) and not isinstance(error, DeadlineError):
            raise
        log.exception("the trace of the record at position %d lacks what storage has recorded", arrival.offset)
        return trace


def _recorded(trace: Trace, arrival: Arrival, written: Written) -> Trace:
    held = written.before.memberships.get(arrival.image_id)
    place = arrival.place if arrival.place >= 0 else arrival.offset
    outcome, version = Outcome.DECIDED, arrival.version
    match arrival.asks:
        case Deleting() as asks:
            outcome, place, version = Outcome.DELETED, arrival.offset, asks.version or written.version
        case Replaying():
            outcome, place = Outcome.REPLAYED, written.place if written.moves else place
        case None | Joining() if not written.moves:
            same = held is not None and held.version == arrival.version
            outcome, place = (Outcome.DUPLICATE, held.place) if held and same else (Outcome.SUPERSEDED, place)
    decision = Decision(
        offset=arrival.offset,
        checksum=arrival.checksum,
        outcome=outcome,
        image_id=arrival.image_id,
        version=version,
        place=place,
        moves=written.moves,
    )
    count = len(written.moves)
    return replace(
        _decided(trace, arrival, decision, recorded_judgement(arrival, written)),
        version=version,
        place=place,
        decided_at_ms=written.decided_at_ms,
        writes=HistoryRange(written.first_number, written.first_number + count - 1) if count else None,
    )


def _search(one: InFlight, found: int) -> TracedSearch | None:
    if one.unsearched or not one.answer.score_code:
        return None
    answer = one.answer.candidates
    return TracedSearch(found, 0, answer.postings, truncated=answer.truncated, exhausted=answer.exhausted)


def _thresholds(one: InFlight) -> Thresholds | None:
    if one.unscored or not one.HasField("scores"):
        return None
    return Thresholds(*map(shortest, (one.scores.accept, one.scores.head_accept, one.scores.adopt)))


def _gate(one: InFlight) -> int | None:
    return one.scores.gate if one.scores.HasField("gate") else None


def _halves(image: JoinedImage) -> tuple[TracedHalf, ...]:
    sides = (
        ("search", image.HasField("search_origin"), image.search_origin),
        ("score", image.HasField("score_origin"), image.score_origin),
    )
    return tuple(
        TracedHalf(side, origin.partition, origin.offset, origin.arrived_at_ms)
        for side, known, origin in sides
        if known
    )


def _join_wait_ms(image: JoinedImage) -> int | None:
    if not (image.HasField("search_origin") and image.HasField("score_origin")):
        return None
    return abs(image.search_origin.arrived_at_ms - image.score_origin.arrived_at_ms)


def _times(one: InFlight) -> Iterator[tuple[str, StepTime]]:
    if one.HasField("search_time"):
        yield "search", one.search_time
    if one.HasField("score_time"):
        yield "score", one.score_time


def _step(name: str, time: StepTime) -> TracedStep:
    return TracedStep(name, time.entered_ms, time.left_ms, max(1, time.tries))
