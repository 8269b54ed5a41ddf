"""Which records of the order are traced, and their traces. Pure.

Search decides who is traced, as far as that is known before the verdict, and each step adds its times to every record.
Assign makes the trace once the verdict is written. A trace goes to the sink with the same element that wrote the
verdict, and a checkpoint completes only after the sink has sent it. After a crash Flink repeats the elements since the
last checkpoint: then storage has the verdict already, and the trace is made from what storage recorded (`repeated`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Literal

from clustering.arrivals import Arrival
from clustering.explain import Explanation, explain, explain_recorded
from clustering.planning import Judgement
from core.dead_letters import BadRecord
from core.notifications import JoinedContent, decode_joined
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedReplay
from core.scores import shortest
from core.trace_policy import TracePolicy
from core.traces import (
    HistoryRange,
    Trace,
    TracedCandidate,
    TracedHalf,
    TracedSearch,
    TracedStep,
    TracedVersions,
    TraceKind,
    TraceReason,
    traced_terms,
)
from core.types import Decision, ImageId, Lookup, Outcome, Thresholds
from operators.in_flight_pb2 import InFlight, StepTime
from operators.item_times import Timing
from operators.responses import candidates, scores

__all__ = ["BatchTracer", "TraceStamp", "step_trace", "trace_reason"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TraceStamp:
    """What every trace of a job says: the fingerprint of the signal's settings, and the release of the code."""

    settings: str = ""
    code: str = ""


def trace_reason(content: JoinedContent | BadRecord, traceparent: bytes, policy: TracePolicy) -> TraceReason | None:
    """Why a record is traced, before anything is known of its end; None if it is not."""
    match content:
        case JoinedImage():
            return policy.reason(content.image_id, flag=content.trace, traceparent=traceparent)
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
    scored = iter(scores(one.scores.values, len(found))) if one.HasField("scores") else repeat(None)
    listed = tuple(TracedCandidate(each.image_id, each.place, each.overlap, next(scored)) for each in found)
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
        explained = explain(arrival, decision, judgement)
        verdict = decision.moves if judgement is None else judgement.verdict.moves
        self._traces.append(
            replace(
                _explained(trace, explained),
                outcome=decision.outcome,
                cause=verdict[0].cause if verdict else None,
                version=decision.version,
                place=decision.place,
                decided_at_ms=decision.decided_at_ms,
                writes=self._written(decision),
            )
        )

    def traces(self, look_up: Callable[[Sequence[ImageId]], Lookup]) -> Sequence[Trace]:
        """The traces of the batch; `look_up` brings what storage holds of images, with their last verdicts."""
        if not self._repeated:
            return self._traces
        lookup = look_up([arrival.image_id for _, arrival in self._repeated if arrival.image_id])
        return [*(_recorded(trace, arrival, lookup) for trace, arrival in self._repeated), *self._traces]


def _bad_end(arrival: Arrival) -> TraceReason | None:
    if arrival.unscored:
        return TraceReason.UNSCORED
    return TraceReason.TRUNCATED if arrival.truncated else None


def _base(one: InFlight, content: JoinedContent | BadRecord, reason: TraceReason, stamp: TraceStamp) -> Trace:
    """What is known of a record without its verdict."""
    trace = Trace(
        kind=TraceKind.IMAGE,
        image_id="" if isinstance(content, BadRecord) else content.image_id,
        version=0,
        position=one.offset,
        place=-1,
        outcome=None,
        cause=None,
        reason=reason,
        terms=traced_terms(one.answer.terms.values),
        thresholds=_thresholds(one),
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
        case JoinedReplay():
            request = content.origin.request_id or None
            return replace(trace, kind=TraceKind.REPLAY, request_id=request, dry_run=content.dry_run)
        case JoinedDelete():
            return replace(trace, kind=TraceKind.DELETE, request_id=content.origin.request_id or None)
        case _:
            return trace


def _verdict(one: InFlight, arrival: Arrival, reason: TraceReason, stamp: TraceStamp) -> Trace:
    trace = _base(one, decode_joined(one.record), reason, stamp)
    return replace(trace, search=None if arrival.unscored else _search(one, len(arrival.candidates)))


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


def _recorded(trace: Trace, arrival: Arrival, lookup: Lookup) -> Trace:
    """A repeated trace with what storage holds of the image by now."""
    membership, last = lookup.memberships.get(arrival.image_id), lookup.verdicts.get(arrival.image_id)
    if membership is None or last is None or membership.version != arrival.version:
        return trace  # deleted, or of a higher version since
    return replace(
        _explained(trace, explain_recorded(arrival, membership.head, last)),
        outcome=Outcome.DECIDED if membership.place == arrival.offset else None,
        cause=last.cause,
        place=membership.place,
    )


def _search(one: InFlight, found: int) -> TracedSearch | None:
    if not one.answer.score_code:
        return None
    answer = one.answer.candidates
    return TracedSearch(found, 0, answer.postings, truncated=answer.truncated, exhausted=answer.exhausted)


def _thresholds(one: InFlight) -> Thresholds | None:
    if one.unscored or not one.HasField("scores"):
        return None
    return Thresholds(*map(shortest, (one.scores.accept, one.scores.head_accept, one.scores.adopt)))


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
