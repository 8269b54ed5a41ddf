"""Decides images without a record of the order: the same rule on read-only calls, so also while the job is down.

Each image is decided by itself, as of the position that storage has: without itself, with all images before that
position. It writes nothing. Its calls are those of the caller class `replay`, so the stream goes first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from clustering.arrivals import Arrival, MoreNeed, PairNeed, Replaying
from clustering.planning import Knowledge, plan
from core.errors import FaultError, UnavailableError
from core.known_verdicts import KnownVerdict
from core.types import ImageId, Thresholds, Versions
from core.vectors import stored_type
from operators.gated_scores import GatedScores, ToScore, gate_of
from operators.responses import candidates, first_scores
from search.serving import search_pb2
from storage.selecting import SelectedImage
from stream.read_only import FreeSearch, Lookups, PairScorer, ReadOnlyBackend

__all__ = ["BATCH", "TrialServers", "TrialSettings", "try_images"]

BATCH = 64
"""Images that are tried together; storage gives so many with their embeddings in one call."""

ROUNDS = 40
"""Of fetching what the decisions of a batch lack. Each page and each look-up is one."""

PATIENCE_S = 60.0
"""How long a server that is busy is asked again."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TrialServers:
    """Clients of the three servers."""

    search: FreeSearch
    scorer: PairScorer
    storage: Lookups


@dataclass(frozen=True, slots=True)
class TrialSettings:
    """How images are tried."""

    model_version: str
    """That scores; empty: the served one."""
    search_dimension: int
    score_dimension: int
    code: Callable[[SelectedImage], bytes]
    """The score code of an image that has none, because it could not be scored before."""


def try_images(
    images: Sequence[SelectedImage],
    servers: TrialServers,
    settings: TrialSettings,
    now_ms: int,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[ImageId, KnownVerdict]:
    """The verdicts that a batch of images would get, each by itself.

    Args:
        images: With their embeddings, at most `BATCH`.
        servers: The clients.
        settings: How they are tried.
        now_ms: Milliseconds since the epoch.
        sleep: Waits so many seconds for a server that is busy.

    Raises:
        RefusedError: The scorer does not know the version of the model.
        MismatchError: Index and storage contradict each other, or the version compares other codes.
        UnavailableError: A server does not answer.
    """
    if not images:
        return {}
    return _Trial(images, servers, settings, sleep).run(now_ms)


class _Trial(ReadOnlyBackend):
    """One batch: the answers that its plans rest on."""

    def __init__(
        self,
        images: Sequence[SelectedImage],
        servers: TrialServers,
        settings: TrialSettings,
        sleep: Callable[[float], None],
    ) -> None:
        super().__init__(servers.search, servers.scorer, servers.storage)
        self._images = images
        self._servers = servers
        self._settings = settings
        self._sleep = sleep
        self._scores = GatedScores(servers.scorer.score)
        self._queries: dict[int, search_pb2.SearchQuery] = {}
        """By place."""

    def run(self, now_ms: int) -> dict[ImageId, KnownVerdict]:
        as_of = self._patiently(lambda: self._servers.storage.look_up(())).position.offset + 1
        pending = self._arrivals(as_of)
        knowledge, decided = Knowledge(), dict[ImageId, KnownVerdict]()
        for _ in range(ROUNDS):
            left, ids, pairs, more = [], set[ImageId](), dict[PairNeed, None](), dict[MoreNeed, None]()
            for arrival in pending:
                planned = plan([arrival], knowledge, now_ms)
                if planned.decisions:
                    moves = planned.decisions[0].moves
                    if moves:  # none: the image was deleted meanwhile
                        own = moves[0]
                        verdict = KnownVerdict(own.new_head, own.cause, own.score, own.matched, arrival.versions)
                        decided[arrival.image_id] = verdict
                else:
                    left.append(arrival)
                    ids |= planned.ids
                    pairs.update(dict.fromkeys(planned.pairs))
                    more.update(dict.fromkeys(planned.more))
            if not left:
                return decided
            pending = left
            self._fetch(knowledge, ids, pairs, more, {arrival.place: arrival for arrival in left})
        raise FaultError(f"{len(pending)} images were not decided in {ROUNDS} rounds")

    def query(self, need: MoreNeed) -> search_pb2.SearchQuery:
        """As of the position of the trial."""
        return self._query(need.place, need.as_of, need.after)

    def searched(self, queries: Sequence[search_pb2.SearchQuery]) -> search_pb2.SearchResponse:
        """Searches that insert nothing, also while the server is busy."""
        return self._patiently(lambda: self._servers.search.search(queries))

    def _arrivals(self, as_of: int) -> list[Arrival]:
        """Each image as a replay at this position, with its first candidates and their scores."""
        self._queries = {
            each.image.place: search_pb2.SearchQuery(image_id=each.image.image_id) for each in self._images
        }
        answers, index_version = self._searched(as_of)
        unknown = [one for one, answer in zip(self._images, answers, strict=True) if not answer.known]
        if unknown:
            # The index does not show them, because they were skipped or hidden: their vectors are asked for instead.
            self._queries.update((one.image.place, self._by_vector(one)) for one in unknown)
            answers, index_version = self._searched(as_of)
        codes = [self._code(one) for one in self._images]
        asked = [ToScore(code, answer.candidates) for code, answer in zip(codes, answers, strict=True)]
        response = self._patiently(lambda: self._scores.of(asked, self._settings.model_version))
        said = _Said(
            Thresholds(response.accept, response.head_accept, response.adopt),
            gate_of(response),
            Versions(response.model_version, index_version),
            as_of,
        )
        return [
            _arrival(one, to_score, packed, said)
            for one, to_score, packed in zip(self._images, asked, response.scores, strict=True)
        ]

    def _searched(self, as_of: int) -> tuple[Sequence[search_pb2.SearchAnswer], str]:
        queries = [self._query(one.image.place, as_of, 0) for one in self._images]
        response = self.searched(queries)
        return response.answers, response.index_version

    def _query(self, place: int, as_of: int, after: int) -> search_pb2.SearchQuery:
        query = search_pb2.SearchQuery()
        query.CopyFrom(self._queries[place])
        query.as_of, query.after = as_of, after
        return query

    def _by_vector(self, one: SelectedImage) -> search_pb2.SearchQuery:
        assert one.embedding is not None, "only images with embeddings are tried"
        return search_pb2.SearchQuery(
            vector=_vector(one.embedding.search_vector, self._settings.search_dimension),
            score=_vector(one.embedding.score_vector, self._settings.score_dimension),
        )

    def _code(self, one: SelectedImage) -> bytes:
        stored = b"" if one.embedding is None else one.embedding.score_code
        return stored or self._settings.code(one)

    def _fetch(
        self,
        knowledge: Knowledge,
        ids: set[ImageId],
        pairs: Mapping[PairNeed, None],
        more: Mapping[MoreNeed, None],
        asking: Mapping[int, Arrival],
    ) -> None:
        """All that the plans lack, and the scores of the pages that it brings."""
        wanted = dict(pairs)
        if more:
            pages = self.more(list(more))
            knowledge.more.update(pages)
            for need, page in pages.items():
                wanted.update(dict.fromkeys(asking[need.place].pairs_with(page.candidates)))
        lacking = [pair for pair in wanted if pair not in knowledge.scores]
        if lacking:
            knowledge.scores.update(self._patiently(lambda: self.score(lacking)))
        if ids or knowledge.lookup is None:
            knowledge.asked |= ids
            own = [one.image.image_id for one in self._images]
            knowledge.lookup = self._patiently(lambda: self._servers.storage.look_up(knowledge.asked, own))

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """Asks a server that is busy again, for a while."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except UnavailableError as error:
                if time.monotonic() > until or error.retry_after_s is None:
                    raise
                self._sleep(error.retry_after_s)


def _vector(data: bytes, dimension: int) -> search_pb2.Vector:
    return search_pb2.Vector(element_type=stored_type(data, dimension), data=data)


@dataclass(frozen=True, slots=True)
class _Said:
    """What holds for all images of a batch."""

    thresholds: Thresholds
    gate: int | None
    versions: Versions
    as_of: int


def _arrival(one: SelectedImage, asked: ToScore, packed: bytes, said: _Said) -> Arrival:
    image, found = one.image, candidates(asked.candidates)
    values = first_scores(packed, len(found), said.gate)
    return Arrival(
        offset=said.as_of,
        checksum=0,
        image_id=image.image_id,
        version=image.version,
        place=image.place,
        score_code=asked.score_code,
        candidates=found[: len(values)],
        scores=values,
        exhausted=asked.candidates.exhausted or len(values) < len(found),
        thresholds=said.thresholds,
        versions=said.versions,
        unscored="",
        search_vector=b"",
        score_vector=b"",
        created_at_ms=image.created_at_ms,
        arrived_at_ms=image.arrived_at_ms,
        truncated=asked.candidates.truncated,
        asks=Replaying(force=True, dry_run=False, request=None),
        given=len(found),
        gate=said.gate,
    )
