"""Asks the question of a verdict again: the same search, scores and rule on read-only calls, so nothing is written.

The answer is a trace. As of now, the image is asked for as if it came in a new version: it leaves its cluster first,
and a head that has members stays one. As of its place, it is asked for as if it had never come. Then the index shows
what it showed then, as long as it has not released that place; heads and counts are those of now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from clustering.assignment import More, MoreNeed, assign
from core.protos.joined_pb2 import JoinedImage, JoinedRecord
from core.traces import HistoryRange, Trace, TraceKind, TraceReason
from core.types import NO_OFFSET, Candidate, Cluster, Decision, ImageId, LogPosition, Lookup, Written
from operators.assign_backend import GrpcBackend
from operators.in_flight_pb2 import InFlight, Scores
from operators.item_times import Timing
from operators.responses import arrival, candidates, content_of
from operators.tracing import BatchTracer, TraceStamp
from scoring.serving import scorer_pb2
from search.serving import search_pb2

__all__ = ["AskedAgain", "AskedImage", "AskedServers", "Question", "ask"]


class AskedSearch(Protocol):
    """What is asked of the search server."""

    def search(self, queries: Sequence[search_pb2.SearchQuery]) -> search_pb2.SearchResponse:
        """Searches that insert nothing."""
        ...

    def get(self, image_ids: Sequence[str]) -> search_pb2.GetResponse:
        """What the index knows of images."""
        ...

    def describe(self) -> search_pb2.DescribeResponse:
        """Position, versions and codes of the index."""
        ...


class AskedScorer(Protocol):
    """What is asked of the scorer."""

    def score(self, blocks: Sequence[scorer_pb2.PairBlock], model_version: str = "") -> scorer_pb2.ScoreResponse:
        """Scores of pairs of codes."""
        ...


class AskedStorage(Protocol):
    """What is asked of the store."""

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """Memberships and clusters of images, as of one moment."""
        ...


@dataclass(frozen=True, slots=True)
class AskedServers:
    """Whom the question is put to."""

    search: AskedSearch
    scorer: AskedScorer
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

    def query(self, after: int = 0) -> search_pb2.SearchQuery:
        """The candidates after the first so many."""
        return search_pb2.SearchQuery(
            image_id=self.image.image_id, after=after, as_of=self.as_of, with_terms=after == 0
        )

    def prepared(self, lookup: Lookup, codes: Mapping[ImageId, bytes]) -> Lookup:
        """What storage holds, as the rule must see it for this question; `codes` has those of the candidates."""
        return lookup if self.as_of is None else _never_came(lookup, self.image.image_id, codes)

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
    as_of = described.offset + 1 if question.as_of is None else question.as_of
    incomplete = as_of <= described.released
    stored = next(iter(servers.search.get([image.image_id]).images), None)
    response = servers.search.search([question.query()])
    answer = response.answers[0]
    if stored is None or not stored.score_code or not answer.known:
        return AskedAgain(as_of, incomplete, None, "the index cannot search for it: it was skipped, hidden or deleted")
    one = _in_flight(image, stored, answer, response.index_version)
    scored = servers.scorer.score(
        [scorer_pb2.PairBlock(query_code=stored.score_code, candidate_codes=answer.candidates.score_codes)]
    )
    one.scores.CopyFrom(
        Scores(
            model_version=scored.model_version,
            accept=scored.accept,
            head_accept=scored.head_accept,
            adopt=scored.adopt,
            values=scored.scores[0],
        )
    )
    backend = _ReadOnlyBackend(question, servers)
    tracer = BatchTracer([one], Timing(), _nothing_written, stamp)
    asked = replace(arrival(one, content_of(one)), version=question.version)
    backend.know(asked.candidates)
    assign([asked], backend, now_ms, committed=tracer.committed)
    (trace,) = tracer.traces(_nothing_recorded)
    shown = replace(
        trace, kind=TraceKind.QUESTION, version=image.version, position=as_of, place=image.place, steps=(), halves=()
    )
    return AskedAgain(as_of, incomplete, shown)


class _ReadOnlyBackend(GrpcBackend):
    """The data that the rule needs, for a record that is in no order."""

    def __init__(self, question: Question, servers: AskedServers) -> None:
        super().__init__(servers.search, servers.scorer, servers.storage, "", _told_nobody)  # type: ignore[arg-type]
        self._question = question
        self._servers = servers
        self._codes: dict[ImageId, bytes] = {}

    def know(self, found: Sequence[Candidate]) -> None:
        """Keeps the codes of candidates."""
        self._codes.update((each.image_id, each.score_code) for each in found)

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """Memberships and clusters; the position is the one before the question."""
        found = self._question.prepared(self._servers.storage.look_up(ids, verdicts_of), self._codes)
        return replace(found, position=LogPosition("", NO_OFFSET))

    def more(self, needs: Sequence[MoreNeed]) -> Mapping[MoreNeed, More]:
        """The next candidates, by free searches."""
        answers = self._servers.search.search([self._question.query(need.after) for need in needs]).answers
        pages = [More(candidates(answer.candidates), answer.candidates.exhausted) for answer in answers]
        for page in pages:
            self.know(page.candidates)
        return dict(zip(needs, pages, strict=True))

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        """Nothing is written."""


def _told_nobody(decisions: Sequence[Decision]) -> None: ...


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


def _never_came(lookup: Lookup, image_id: ImageId, codes: Mapping[ImageId, bytes]) -> Lookup:
    """The look-up as if an image had never come: it is no member, and those that moved to it are heads themselves."""
    memberships, clusters = dict(lookup.memberships), dict(lookup.clusters)
    own = memberships.pop(image_id, None)
    if own is not None and own.head != image_id and own.head in clusters:
        clusters[own.head] = replace(clusters[own.head], count=clusters[own.head].count - 1)
    for each in list(memberships.values()):
        if each.head == image_id:
            memberships[each.image_id] = each._replace(head=each.image_id)
            clusters[each.image_id] = Cluster(each.image_id, 1, codes.get(each.image_id, b""))
    clusters.pop(image_id, None)
    return replace(lookup, memberships=memberships, clusters=clusters)
