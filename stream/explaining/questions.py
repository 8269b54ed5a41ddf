"""Asks the question of a verdict again: the same search, scores and rule on read-only calls, so nothing is written.

The answer is a trace. As of now, the image is asked for as if it came in a new version: it leaves its cluster first,
and a head that has members stays one. As of its place, it is asked for as it came: heads are those of then, which the
history tells. The index shows what it showed then, as long as it has not released that place.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from clustering.assignment import MoreNeed, assign
from core.protos.joined_pb2 import JoinedImage, JoinedRecord
from core.traces import HistoryRange, Trace, TraceKind, TraceReason
from core.types import NO_OFFSET, Decision, ImageId, LogPosition, Lookup, Written
from operators.gated_scores import GatedScores, ToScore
from operators.in_flight_pb2 import InFlight
from operators.item_times import Timing
from operators.responses import arrival, content_of, scores_message
from operators.tracing import BatchTracer, TraceStamp
from search.serving import search_pb2
from storage.past import PastUnknownError
from stream.read_only import FreeSearch, Lookups, PairScorer, ReadOnlyBackend

__all__ = ["AskedAgain", "AskedImage", "AskedServers", "Question", "ask"]


class AskedSearch(FreeSearch, Protocol):
    """What is asked of the search server."""

    def get(self, image_ids: Sequence[str]) -> search_pb2.GetResponse:
        """What the index knows of images."""
        ...

    def describe(self) -> search_pb2.DescribeResponse:
        """Position, versions and codes of the index."""
        ...


class AskedStorage(Lookups, Protocol):
    """What is asked of the store."""

    def written_at(self, image_id: ImageId, offset: int, others: Collection[ImageId] = ()) -> Written:
        """What the record of an image at a position wrote, and what storage held before it."""
        ...


@dataclass(frozen=True, slots=True)
class AskedServers:
    """Whom the question is put to."""

    search: AskedSearch
    scorer: PairScorer
    storage: AskedStorage


@dataclass(frozen=True, slots=True)
class AskedImage:
    """What storage holds of the image. Times are milliseconds since the epoch."""

    image_id: ImageId
    version: int
    place: int
    created_at_ms: int = 0
    arrived_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """The answer."""

    as_of: int
    """The position as of which the index was asked."""
    incomplete: bool
    """The index has dropped what only searches as of that position could see."""
    trace: Trace | None
    """What the verdict would rest on; None: the index cannot search for the image."""
    problem: str | None = None
    """Why it cannot."""


class Question:
    """One image, and as of when it is asked for."""

    def __init__(self, image: AskedImage, as_of: int | None) -> None:
        """Takes the image.

        Args:
            image: The image.
            as_of: Its place; None: now.
        """
        self.image = image
        self.as_of = as_of

    def position(self, storage: AskedStorage) -> int:
        """The position as of which the index is asked. Now is that of storage: the index may be a batch ahead."""
        return storage.look_up(()).position.offset + 1 if self.as_of is None else self.as_of

    def query(self, as_of: int, after: int = 0) -> search_pb2.SearchQuery:
        """The candidates as of a position, after the first so many."""
        return search_pb2.SearchQuery(image_id=self.image.image_id, after=after, as_of=as_of, with_terms=after == 0)

    def look_up(self, storage: AskedStorage, ids: Collection[ImageId]) -> Lookup:
        """What storage holds of images, as the rule must see it for this question."""
        if self.as_of is None:
            return storage.look_up(ids)
        return storage.written_at(self.image.image_id, self.as_of, ids).before

    @property
    def version(self) -> int:
        """A version that is decided, not ignored."""
        return self.image.version + 1


def ask(question: Question, servers: AskedServers, stamp: TraceStamp, now_ms: int) -> AskedAgain:
    """Asks for an image again.

    Args:
        question: The image, and as of when.
        servers: Whom to ask.
        stamp: What every trace says.
        now_ms: Milliseconds since the epoch.

    Raises:
        MismatchError: Index and storage contradict each other.
        ServiceError: A server cannot answer.
    """
    image = question.image
    described = servers.search.describe()
    as_of = question.position(servers.storage)
    incomplete = as_of <= described.released
    stored = next(iter(servers.search.get([image.image_id]).images), None)
    response = servers.search.search([question.query(as_of)])
    answer = response.answers[0]
    if stored is None or not stored.score_code or not answer.known:
        return AskedAgain(as_of, incomplete, None, "the index cannot search for it: it was skipped, hidden or deleted")
    one = _in_flight(image, stored, answer, response.index_version)
    scored = GatedScores(servers.scorer.score).of([ToScore(stored.score_code, answer.candidates)])
    one.scores.CopyFrom(scores_message(scored, scored.scores[0]))
    backend = _QuestionBackend(question, servers, as_of)
    tracer = BatchTracer([one], Timing(), _nothing_written, stamp)
    asked = replace(arrival(one, content_of(one)), version=question.version)
    try:
        assign([asked], backend, now_ms, committed=tracer.committed)
    except PastUnknownError as error:
        return AskedAgain(as_of, incomplete, None, str(error))
    (trace,) = tracer.traces(_nothing_recorded)
    shown = replace(
        trace, kind=TraceKind.QUESTION, version=image.version, position=as_of, place=image.place, steps=(), halves=()
    )
    return AskedAgain(as_of, incomplete, shown)


class _QuestionBackend(ReadOnlyBackend):
    """The data that the rule needs for a question."""

    def __init__(self, question: Question, servers: AskedServers, as_of: int) -> None:
        super().__init__(servers.search, servers.scorer, servers.storage)
        self._question = question
        self._servers = servers
        self._as_of = as_of

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """Memberships and clusters; the position is the one before the question."""
        found = self._question.look_up(self._servers.storage, ids)
        return replace(found, position=LogPosition("", NO_OFFSET))

    def query(self, need: MoreNeed) -> search_pb2.SearchQuery:
        """As the first search, behind what it gave."""
        return self._question.query(self._as_of, need.after)


def _nothing_recorded(image_id: ImageId, offset: int, others: Sequence[ImageId]) -> Written:
    raise AssertionError("a question is in no order, so storage never has it already")


def _nothing_written(decision: Decision) -> HistoryRange | None:
    return None


def _in_flight(
    image: AskedImage, stored: search_pb2.StoredImage, answer: search_pb2.SearchAnswer, index_version: str
) -> InFlight:
    """The image as it would travel between the operators, without its vectors."""
    record = JoinedImage(
        image_id=image.image_id,
        image_version=image.version,
        created_at_ms=image.created_at_ms,
        arrived_at_ms=image.arrived_at_ms,
    )
    found = search_pb2.Answer(place=stored.place, score_code=stored.score_code, terms=answer.terms)
    found.candidates.CopyFrom(answer.candidates)
    return InFlight(
        record=JoinedRecord(image=record).SerializeToString(),
        answer=found,
        index_version=index_version,
        traced=TraceReason.ASKED,
    )
