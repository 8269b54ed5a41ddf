"""Deciding a batch as far as knowledge reaches, and saying what is lacking.

`plan` is pure. Images are taken in the order of the log; each sees what the earlier ones of the batch have changed.
From the first image on for which something is lacking, decisions are presumptions: they serve to find out what the
later images will need, so that one round of calls brings nearly all of it, and are not given out.

If the heads of all matches refuse an image and there are candidates after those that it has, it asks for the next page:
else a giant cluster would hide every other match. It asks for at most `MAX_EXTRA_PAGES`, one after the other, and only
while all heads refuse; then it is decided on what there is. Pages that were fetched on a presumption and turn out not
to be needed are not looked at: what is decided never depends on what happens to be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from clustering.arrivals import Arrival, More, MoreNeed, PairNeed, pair_need
from clustering.rule import Placed, Subject, Verdict, judge, matches, unscored_move
from clustering.staging import StagedLookup
from core.errors import MismatchError
from core.types import Candidate, Cluster, Decision, ImageId, Lookup, Match, Move, Outcome, Thresholds

__all__ = ["MAX_EXTRA_PAGES", "Knowledge", "Plan", "plan"]

MAX_EXTRA_PAGES = 4
"""How often an image may ask for more candidates."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What was found out so far."""

    lookup: Lookup | None = None
    asked: Set[ImageId] = frozenset()
    """The ids that the look-up was asked for; those of them that it lacks are unknown to storage."""
    scores: Mapping[PairNeed, float] = field(default_factory=dict)
    more: Mapping[MoreNeed, More] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions up to the first image that lacks something, and all that the batch is known to lack."""

    decisions: tuple[Decision, ...]
    ids: frozenset[ImageId]
    """Images to look up."""
    pairs: tuple[PairNeed, ...]
    more: tuple[MoreNeed, ...]


def plan(arrivals: Sequence[Arrival], knowledge: Knowledge, now_ms: int) -> Plan:
    """Decides a batch as far as knowledge reaches.

    Args:
        arrivals: Records of the order, consecutive, from the one after the look-up's position on.
        knowledge: What was found out so far.
        now_ms: The time of the decisions, in milliseconds since the epoch.

    Raises:
        MismatchError: A candidate is unknown to storage though its place is before; index and storage contradict.
    """
    if knowledge.lookup is None:
        return Plan((), frozenset().union(*map(_ids, arrivals)), (), ())
    planner = _Planner(knowledge, knowledge.lookup, now_ms)
    decisions: list[Decision] = []
    certain = True
    for arrival in arrivals:
        decision, complete = planner.decide(arrival)
        certain = certain and complete
        if certain:
            decisions.append(decision)
    return Plan(tuple(decisions), frozenset(planner.ids), tuple(planner.pairs), tuple(planner.more))


def _ids(arrival: Arrival) -> set[ImageId]:
    """The images that must be looked up for a record: its own and its matches."""
    if not arrival.image_id:
        return set()
    return {arrival.image_id, *(match.image_id for match in arrival.matches)}


class _Planner:
    """One pass over a batch: the staged look-up, and the needs that came up (in order, each once)."""

    def __init__(self, knowledge: Knowledge, lookup: Lookup, now_ms: int) -> None:
        self._knowledge = knowledge
        self._staged = StagedLookup(lookup)
        self._now_ms = now_ms
        self._offset = lookup.position.offset
        self.ids: set[ImageId] = set()
        self.pairs: dict[PairNeed, None] = {}
        self.more: dict[MoreNeed, None] = {}

    def decide(self, arrival: Arrival) -> tuple[Decision, bool]:
        """The decision on a record, staged for those that follow, and whether nothing was lacking for it."""
        if not arrival.image_id:
            # Nothing is named that could have a head; the operator has written the dead letter.
            return self._swallowed(arrival, Outcome.UNREADABLE, arrival.offset), True
        standing = self._staged.standing(arrival.image_id)
        if standing is None and arrival.image_id not in self._knowledge.asked:
            self.ids.add(arrival.image_id)
            return self._swallowed(arrival, Outcome.SUPERSEDED, arrival.offset), False
        if standing is not None and standing.version == arrival.version:
            return self._swallowed(arrival, Outcome.DUPLICATE, standing.place), True
        if standing is not None and standing.version > arrival.version:
            return self._swallowed(arrival, Outcome.SUPERSEDED, _place(arrival)), True
        home = None if standing is None else self._staged.cluster(standing.head)
        moves, complete = self._moves(arrival, home)
        decision = self._decided(arrival, moves)
        self._staged.stage(decision)
        return decision, complete

    def _moves(self, arrival: Arrival, home: Cluster | None) -> tuple[tuple[Move, ...], bool]:
        if arrival.unscored:
            return (unscored_move(arrival.image_id, home),), True
        thresholds = arrival.thresholds or _NOTHING_MATCHES
        subject = Subject(arrival.image_id, arrival.score_code, thresholds, home)
        verdict, complete = self._judge(arrival, subject)
        return verdict.moves, complete and verdict.complete

    def _judge(self, arrival: Arrival, subject: Subject) -> tuple[Verdict, bool]:
        """The verdict, on as many pages as it takes, and whether ids, pages and their scores were all known."""
        scores = _Scores(arrival, self._knowledge.scores, self.pairs)
        found = arrival.matches
        after, exhausted, pages = len(arrival.candidates), arrival.exhausted, 0
        while True:
            placed, all_known = self._placed(arrival, found, subject)
            verdict = judge(subject, placed, scores)
            if not all_known or not verdict.refused or exhausted or pages == MAX_EXTRA_PAGES:
                return verdict, all_known
            need = MoreNeed(arrival.place, after)
            page = self._knowledge.more.get(need)
            if page is None:
                self.more[need] = None
                return verdict, False
            scored = scores.of_page(page.candidates)
            if scored is None:
                return verdict, False
            found = matches(
                arrival.image_id,
                [*((_candidate(match), match.score) for match in found), *scored],
                subject.thresholds.accept,
            )
            after, exhausted, pages = after + len(page.candidates), page.exhausted, pages + 1

    def _placed(self, arrival: Arrival, found: Sequence[Match], subject: Subject) -> tuple[list[Placed], bool]:
        """The matches with their clusters, as if the image had left its own, and whether all were looked up."""
        placed: list[Placed] = []
        all_known = True
        for match in found:
            standing = self._staged.standing(match.image_id)
            if standing is not None:
                placed.append(Placed(match, _without(subject, self._staged.cluster(standing.head))))
            elif match.image_id in self._knowledge.asked:
                raise MismatchError(
                    f"the index has the image {match.image_id!r} at place {match.place}, a candidate for offset "
                    f"{arrival.offset}, but storage (at offset {self._offset}) does not know it: index and storage "
                    f"are not of the same order; rebuild the index from storage"
                )
            else:
                self.ids.add(match.image_id)
                all_known = False
        return placed, all_known

    def _decided(self, arrival: Arrival, moves: tuple[Move, ...]) -> Decision:
        return Decision(
            offset=arrival.offset,
            checksum=arrival.checksum,
            outcome=Outcome.DECIDED,
            image_id=arrival.image_id,
            version=arrival.version,
            place=_place(arrival),
            moves=moves,
            score_code=arrival.score_code,
            search_vector=arrival.search_vector,
            score_vector=arrival.score_vector,
            versions=arrival.versions,
            created_at_ms=arrival.created_at_ms,
            arrived_at_ms=arrival.arrived_at_ms,
            decided_at_ms=self._now_ms,
            truncated=arrival.truncated,
        )

    def _swallowed(self, arrival: Arrival, outcome: Outcome, place: int) -> Decision:
        return Decision(
            offset=arrival.offset,
            checksum=arrival.checksum,
            outcome=outcome,
            image_id=arrival.image_id,
            version=arrival.version,
            place=place,
            versions=arrival.versions,
            created_at_ms=arrival.created_at_ms,
            arrived_at_ms=arrival.arrived_at_ms,
            decided_at_ms=self._now_ms,
        )


class _Scores:
    """The scores that are known for one image; notes the pairs that are not."""

    def __init__(self, arrival: Arrival, known: Mapping[PairNeed, float], lacking: dict[PairNeed, None]) -> None:
        self._arrival = arrival
        self._known = known
        self._lacking = lacking

    def __call__(self, one: bytes, other: bytes) -> float | None:
        """The score of two codes: the one a candidate of the image came with, or one that was fetched."""
        code = self._arrival.score_code
        if code in (one, other):
            own = self._arrival.known_scores.get(other if one == code else one)
            if own is not None:
                return own
        need = pair_need(self._arrival.versions.model, one, other)
        score = self._known.get(need)
        if score is None:
            self._lacking[need] = None
        return score

    def of_page(self, candidates: Sequence[Candidate]) -> list[tuple[Candidate, float]] | None:
        """The candidates of a further page with their scores; None if one of these is not known yet."""
        scored: list[tuple[Candidate, float]] = []
        for candidate in candidates:
            score = self(self._arrival.score_code, candidate.score_code)
            if score is not None:
                scored.append((candidate, score))
        return scored if len(scored) == len(candidates) else None


_NOTHING_MATCHES = Thresholds(float("inf"), float("inf"), float("inf"))
"""For an image without candidates, whose answer needs no thresholds."""


def _place(arrival: Arrival) -> int:
    """The place of the image version: as the index has it, else (it skipped the record) the offset."""
    return arrival.place if arrival.place >= 0 else arrival.offset


def _candidate(match: Match) -> Candidate:
    return Candidate(match.image_id, match.place, match.overlap, match.score_code)


def _without(subject: Subject, cluster: Cluster) -> Cluster:
    """A cluster as it is once the subject has left it."""
    if subject.home is None or cluster.head != subject.home.head:
        return cluster
    return replace(cluster, count=cluster.count - 1)
