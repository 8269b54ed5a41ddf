"""Would two images get the same head, and what keeps them apart?

The image with the later place is asked for again as of now; the other one is what it should match.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from core.scores import shortest
from core.traces import LossReason, Trace, TracedCandidate
from core.types import Thresholds
from operators.responses import scores
from operators.tracing import TraceStamp
from scoring.serving import scorer_pb2
from search.serving import search_pb2
from stream.explaining.questions import AskedImage, AskedServers, Question, ask

__all__ = ["Apart", "PairExplained", "PairLimits", "apart_text", "compare"]


class Apart(StrEnum):
    """What keeps two images apart before their scores count. Else it is a `LossReason`."""

    NOT_SEARCHABLE = "not_searchable"
    FEW_SHARED_TERMS = "few_shared_terms"
    NOT_AMONG_FIRST = "not_among_first"

    @property
    def text(self) -> str:
        """The reason as a sentence."""
        return _APART[self]


_APART = {
    Apart.NOT_SEARCHABLE: "the index cannot find one of them: it was skipped, hidden or deleted",
    Apart.FEW_SHARED_TERMS: "they share fewer terms than a candidate must",
    Apart.NOT_AMONG_FIRST: "they share terms, but enough other images are nearer or share more of them",
}


def apart_text(word: str) -> str:
    """What a word of `Apart` or `LossReason` says as a sentence; the word itself if it is none of them."""
    for words in (Apart, LossReason):
        if word in set(words):
            return words(word).text
    return word


@dataclass(frozen=True, slots=True)
class PairLimits:
    """Settings of the signal: terms that a candidate must share, and the Hamming bits at the front of a code."""

    min_overlap: int
    code_bits: int


@dataclass(frozen=True, slots=True)
class PairExplained:
    """Two images beside each other. Numbers are None where a code or terms are not known."""

    image_id: str
    other_id: str
    head: str | None
    other_head: str | None
    same_head: bool
    """They have the same head now."""
    would_match: bool | None
    """Their score is at least `accept`."""
    would_join: bool
    """Asked now, the later one would get the head that the other one has."""
    apart: str | None
    """What keeps them apart: an `Apart` or a `LossReason`; None: nothing."""
    shared_terms: int | None
    needed_terms: int
    distance_bits: int | None
    """Hamming bits of the score codes that differ."""
    code_bits: int
    score: float | None
    head_score: float | None
    """Of the later image against the other's head."""
    thresholds: Thresholds | None
    later_id: str
    """The image that was asked for."""
    asked: Trace | None
    """What its verdict would rest on."""


def compare(
    image: AskedImage,
    other: AskedImage,
    servers: AskedServers,
    limits: PairLimits,
    stamp: TraceStamp,
    now_ms: int,
) -> PairExplained:
    """Compares two images that storage holds.

    Args:
        image: One of them.
        other: The other.
        servers: Whom to ask.
        limits: Of the signal.
        stamp: What every trace says.
        now_ms: Milliseconds since the epoch.

    Raises:
        MismatchError: Index and storage contradict each other.
        ServiceError: A server cannot answer.
    """
    later, earlier = (image, other) if image.place >= other.place else (other, image)
    lookup = servers.storage.look_up([later.image_id, earlier.image_id])
    heads = {each: found.head for each, found in lookup.memberships.items()}
    asked = ask(Question(later, None), servers, stamp, now_ms).trace
    codes = {each.image_id: each for each in servers.search.get([later.image_id, earlier.image_id]).images}
    shared = _shared_terms(later, earlier, servers)
    goal = heads.get(earlier.image_id)
    cluster = None if goal is None else lookup.clusters.get(goal)
    pair = _PairScores(_code(codes, later), servers, asked)
    candidate = _candidate(asked, earlier)
    thresholds = None if asked is None else asked.thresholds
    score = pair.score(_code(codes, earlier))
    chosen = candidate is not None and candidate.lost is None
    would_join = chosen or (asked is not None and asked.choice is not None and asked.choice.head == goal)
    return PairExplained(
        image_id=image.image_id,
        other_id=other.image_id,
        head=heads.get(image.image_id),
        other_head=heads.get(other.image_id),
        same_head=goal is not None and goal == heads.get(later.image_id),
        would_match=None if score is None or thresholds is None else score >= thresholds.accept,
        would_join=would_join,
        apart=None if would_join else _apart(asked, candidate, shared, limits),
        shared_terms=shared,
        needed_terms=limits.min_overlap,
        distance_bits=_distance(_code(codes, later), _code(codes, earlier), limits.code_bits),
        code_bits=limits.code_bits,
        score=score,
        head_score=None if cluster is None else pair.score(cluster.founding_code),
        thresholds=thresholds,
        later_id=later.image_id,
        asked=asked,
    )


def _apart(asked: Trace | None, candidate: TracedCandidate | None, shared: int | None, limits: PairLimits) -> str:
    if asked is None or shared is None:
        return Apart.NOT_SEARCHABLE
    if candidate is not None and candidate.lost is not None:
        return candidate.lost
    return Apart.FEW_SHARED_TERMS if shared < limits.min_overlap else Apart.NOT_AMONG_FIRST


def _candidate(asked: Trace | None, earlier: AskedImage) -> TracedCandidate | None:
    found = () if asked is None else asked.candidates
    return next((each for each in found if each.image_id == earlier.image_id), None)


def _code(codes: dict[str, search_pb2.StoredImage], image: AskedImage) -> bytes:
    return codes[image.image_id].score_code if image.image_id in codes else b""


def _shared_terms(one: AskedImage, other: AskedImage, servers: AskedServers) -> int | None:
    """How many terms two images share; None if the index cannot search for one of them."""
    queries = [search_pb2.SearchQuery(image_id=each.image_id, k=1, with_terms=True) for each in (one, other)]
    terms = [np.frombuffer(answer.terms.values, "<u4") for answer in servers.search.search(queries).answers]
    if not all(map(len, terms)):
        return None
    return int(np.count_nonzero(terms[0] == terms[1]))


def _distance(one: bytes, other: bytes, bits: int) -> int | None:
    if not one or not other:
        return None
    size = bits // 8
    differing = np.frombuffer(one[:size], np.uint8) ^ np.frombuffer(other[:size], np.uint8)
    return int(np.unpackbits(differing).sum())


class _PairScores:
    """Scores of one code against others, by the model that answered the question."""

    def __init__(self, code: bytes, servers: AskedServers, asked: Trace | None) -> None:
        self._code = code
        self._scorer = servers.scorer
        self._model = "" if asked is None else asked.versions.model

    def score(self, other: bytes) -> float | None:
        if not self._code or not other:
            return None
        block = scorer_pb2.PairBlock(query_code=self._code, candidate_codes=other)
        response = self._scorer.score([block], self._model)
        return shortest(scores(response.scores[0], 1)[0])
