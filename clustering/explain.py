"""Why an image has its head, and for every other candidate why it lost. Pure, beside `plan`.

`plan` keeps what the rule saw (`Judgement`); nothing is computed for an image that nobody asks about. The words are
those of `core.traces`. They are right for the rule that `clustering.rule` states. Of another rule the head, the match
that decided and the adopted images are right; the reasons are those that the scores suggest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from clustering.arrivals import Arrival, Joining
from clustering.planning import Judgement
from clustering.rule import Match, Placed, vouches
from core.traces import Adoption, Choice, LossReason, TracedAdoption, TracedCandidate, Why
from core.types import Candidate, Cause, Cluster, Decision, ImageId, Move

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an image has its head, or would have it."""

    choice: Choice | None
    """None: no rule was asked, as for a duplicate."""
    candidates: tuple[TracedCandidate, ...] = ()
    """Matches first, best first, then the others by score, then those beyond the gate, nearest first."""
    adopted: tuple[TracedAdoption, ...] = ()
    pages: int = 0
    """Further pages of candidates that were asked for."""
    exhausted: bool = True
    """There are no candidates after these, or only such as are beyond the gate."""


def explain(arrival: Arrival, decision: Decision, judgement: Judgement | None) -> Explanation:
    """Explains one decision.

    Args:
        arrival: The record, with its candidates.
        decision: What `plan` decided on it.
        judgement: Of the same plan; None if no rule was asked. What it says is explained, written or not.
    """
    if judgement is None:
        return Explanation(_without_rule(arrival, decision), tuple(_unjudged(arrival)), exhausted=arrival.exhausted)
    own, *moved = judgement.verdict.moves
    adopted = [move for move in moved if move.cause is Cause.ADOPTED]
    judged = _Judged(judgement, own, {move.image_id: move for move in adopted})
    others = _others(arrival, judgement)
    return Explanation(
        choice=Choice(
            head=own.new_head,
            old_head=own.old_head,
            matched=own.matched,
            score=own.score,
            head_score=judged.score_of_choice(),
            why=_why(own, judgement, others),
        ),
        candidates=(*map(judged.candidate, _matches(judgement)), *others),
        adopted=tuple(TracedAdoption(move.image_id, move.score) for move in adopted),
        pages=len(judgement.pages),
        exhausted=arrival.is_last(judgement.pages[-1]) if judgement.pages else arrival.exhausted,
    )


class _Judged:
    """The matches of one image after its verdict."""

    def __init__(self, judgement: Judgement, own: Move, adopted: dict[ImageId, Move]) -> None:
        self._judgement = judgement
        self._own = own
        self._adopted = adopted
        self._chosen = self._chosen_cluster()
        ids = [placed.match.candidate.image_id for placed in judgement.placed]
        self._tried = ids[: ids.index(own.matched)] if own.matched in ids else ids
        """The matches that were tried before one gave the image its head."""
        self._forbidden = {placed.match.candidate.image_id for placed in judgement.forbidden}

    def score_of_choice(self) -> float | None:
        """The score of the image against the head that it joined; None if it is its own head."""
        subject = self._judgement.subject
        if self._own.cause is not Cause.MATCHED:
            return None
        for placed in self._judgement.placed:
            if placed.match.candidate.image_id == self._own.matched:
                return self._head_score(placed)
        return self._score(subject.score_code, self._chosen.founding_code)

    def candidate(self, placed: Placed) -> TracedCandidate:
        """A match, with what became of it."""
        candidate, score = placed.match
        adoption, adopt_score = self._adoption(placed)
        head_score = self._head_score(placed)
        return TracedCandidate(
            image_id=candidate.image_id,
            place=candidate.place,
            overlap=candidate.overlap,
            score=score,
            head=placed.cluster.head,
            head_score=head_score,
            lost=self._lost(placed, head_score),
            adoption=adoption,
            adopt_score=adopt_score,
            distance=candidate.distance,
        )

    def _chosen_cluster(self) -> Cluster:
        subject, own = self._judgement.subject, self._own
        if own.cause is Cause.KEPT and subject.home is not None:
            return subject.home
        joined = next((one.cluster for one in self._judgement.placed if one.cluster.head == own.new_head), None)
        code = subject.score_code if own.new_head == own.image_id else b""
        return joined or Cluster(own.new_head, 1, code)

    def _head_score(self, placed: Placed) -> float | None:
        founding = placed.cluster.founding_code
        if vouches(self._judgement.subject, placed) or founding == placed.match.candidate.score_code:
            return placed.match.score
        return self._score(self._judgement.subject.score_code, founding)

    def _lost(self, placed: Placed, head_score: float | None) -> LossReason | None:
        own, image_id = self._own, placed.match.candidate.image_id
        if image_id in self._forbidden:
            return LossReason.FORBIDDEN
        if own.cause is Cause.KEPT:
            return LossReason.KEPT
        if image_id == own.matched:
            return None
        if own.cause is Cause.PINNED:
            return LossReason.PINNED
        if head_score is None and not placed.cluster.founding_code:
            return LossReason.HEAD_UNCODED
        if self._refused(placed, head_score):
            return LossReason.HEAD_REFUSED
        return LossReason.SAME_HEAD if placed.cluster.head == own.new_head else LossReason.WORSE

    def _refused(self, placed: Placed, head_score: float | None) -> bool:
        if head_score is None:  # not known again: the rule took the first match whose head accepted
            return placed.match.candidate.image_id in self._tried
        return head_score < self._judgement.subject.thresholds.head_accept

    def _adoption(self, placed: Placed) -> tuple[Adoption | None, float | None]:
        single, cluster = placed.match.candidate.image_id, placed.cluster
        moved = self._adopted.get(single)
        if moved is not None:
            return Adoption.ADOPTED, moved.score
        if self._own.cause is Cause.PINNED:
            return None, None
        if cluster.head != single or cluster.count != 1 or single == self._chosen.head:
            return None, None
        if single in self._forbidden or single in self._judgement.unadopted:
            return Adoption.FORBIDDEN, self._score(cluster.founding_code, self._chosen.founding_code)
        if not cluster.founding_code or not self._chosen.founding_code:
            return Adoption.UNCODED, None
        return Adoption.BELOW_ADOPT, self._score(cluster.founding_code, self._chosen.founding_code)

    def _score(self, one: bytes, other: bytes) -> float | None:
        return self._judgement.score(one, other) if one and other else None


def _why(own: Move, judgement: Judgement, others: Iterable[TracedCandidate]) -> Why:
    if own.cause in _GROUNDS:
        return _GROUNDS[own.cause]
    if judgement.placed or judgement.forbidden:
        return Why.ALL_REFUSED
    below = (LossReason.BELOW_ACCEPT, LossReason.BEYOND_GATE)
    return Why.NO_MATCH if any(other.lost in below for other in others) else Why.NO_CANDIDATES


_GROUNDS = {Cause.KEPT: Why.KEPT, Cause.MATCHED: Why.MATCHED, Cause.PINNED: Why.PINNED}
"""Of the causes that say it all."""

_GROUNDS_OF_ROW = {
    Cause.BOOTSTRAPPED: Why.BOOTSTRAPPED,
    Cause.FOUNDED: Why.NOT_BOOTSTRAPPED,
    Cause.KEPT: Why.KEPT,
    Cause.PINNED: Why.PINNED,
    Cause.UNSCORED: Why.UNSCORED,
}
"""Of an image whose head a manifest says."""


def _matches(judgement: Judgement) -> Sequence[Placed]:
    """All matches, best first, those that overrides forbid among them."""
    if not judgement.forbidden:
        return judgement.placed
    return sorted((*judgement.placed, *judgement.forbidden), key=lambda placed: _rank(placed.match))


def _rank(match: Match) -> tuple[float, int, int]:
    return -match.score, -match.candidate.overlap, match.candidate.place


def _without_rule(arrival: Arrival, decision: Decision) -> Choice | None:
    """The head of an image that no rule was asked about; None if it got none."""
    own = decision.moves[0] if decision.moves else None
    of_row = own is not None and isinstance(arrival.asks, Joining)
    if own is None or not (of_row or own.cause is Cause.UNSCORED):
        return None
    return Choice(own.new_head, own.old_head, own.matched, own.score, None, _GROUNDS_OF_ROW[own.cause])


def _others(arrival: Arrival, judgement: Judgement) -> list[TracedCandidate]:
    """The candidates that are no matches."""
    matched = {placed.match.candidate.image_id for placed in (*judgement.placed, *judgement.forbidden)}
    paged = [candidate for page in judgement.pages for candidate in page.candidates]
    scored = [Match(candidate, score) for candidate, score in zip(arrival.candidates, arrival.scores, strict=True)]
    code = arrival.score_code
    near = filter(arrival.is_near, paged)
    scored += [Match(each, score) for each in near if (score := judgement.score(code, each.score_code)) is not None]
    listed = _listed(arrival, (each for each in scored if each.candidate.image_id not in matched))
    beyond = [*arrival.beyond_gate, *(each for each in paged if not arrival.is_near(each))]
    return [*(replace(each, lost=each.lost or LossReason.GONE) for each in listed), *_beyond_gate(beyond)]


def _unjudged(arrival: Arrival) -> list[TracedCandidate]:
    """The candidates of an image that was not decided, such as a duplicate."""
    if arrival.unscored:
        return []
    listed = _listed(arrival, map(Match, arrival.candidates, arrival.scores))
    return [*listed, *_beyond_gate(arrival.beyond_gate)]


def _beyond_gate(candidates: Iterable[Candidate]) -> Iterator[TracedCandidate]:
    """Candidates that were not scored."""
    for one in candidates:
        lost = LossReason.BEYOND_GATE
        yield TracedCandidate(one.image_id, one.place, one.overlap, None, lost=lost, distance=one.distance)


def _listed(arrival: Arrival, scored: Iterable[Match]) -> list[TracedCandidate]:
    ranked = sorted(scored, key=_rank)
    accept = arrival.thresholds.accept if arrival.thresholds else 0.0
    return [
        TracedCandidate(
            one.image_id,
            one.place,
            one.overlap,
            score,
            lost=_lost_alone(arrival, one.image_id, score, accept),
            distance=one.distance,
        )
        for one, score in ranked
    ]


def _lost_alone(arrival: Arrival, image_id: ImageId, score: float, accept: float) -> LossReason | None:
    if image_id == arrival.image_id:
        return LossReason.ITSELF
    return LossReason.BELOW_ACCEPT if score < accept else None
