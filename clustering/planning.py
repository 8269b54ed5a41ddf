"""Decides a batch as far as the known facts allow, and lists what is lacking.

`plan` is pure. Images are taken in the order of the log, and each sees what the earlier ones of the batch have changed.
A head that is forgotten passes its name on. Storage knows to whom, so such a record is decided alone, and the next ones
on what storage made of it.

From the first image that lacks something on, decisions are presumptions. They show what the later images will need, so
that one round of calls brings nearly all of it. They are not returned.

If the heads of all matches refuse an image and there are further candidates, the image asks for the next page. Else a
giant cluster would hide every other match. It asks for at most `MAX_EXTRA_PAGES`, one after the other, and only while
all heads refuse; then it is decided on what there is. A page that a presumption asked for and that turns out not to be
needed is not used: a decision never depends on what happens to be known. Matches that overrides forbid count as
refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from clustering.arrivals import Arrival, Deleting, Joining, More, MoreNeed, PairNeed, Replaying, pair_need
from clustering.deletes import deletion
from clustering.members import joined
from clustering.overrides import Obeyed, obeyed, offered, pin_of
from clustering.replays import changes, is_settled, places
from clustering.rule import ClusterRule, Match, PairScore, Placed, Subject, Verdict, judge, matches, unscored_move
from clustering.staging import StagedLookup
from core.errors import MismatchError
from core.manifest_rows import MemberRow, RowResult
from core.types import Candidate, Cause, Cluster, Decision, ImageId, Lookup, Move, Outcome, Thresholds

__all__ = ["MAX_EXTRA_PAGES", "NOTHING_MATCHES", "Judgement", "Knowledge", "Plan", "plan", "without_subject"]

MAX_EXTRA_PAGES = 5
"""How many further pages of candidates an image may ask for. They have 100 each: with a first page of 20, an image sees
at most 520 candidates."""


@dataclass(slots=True)
class Knowledge:
    """What is known for a batch. `assign` adds to it round by round; `plan` only reads it."""

    lookup: Lookup | None = None
    """None: it has to be made, or made again."""
    asked: set[ImageId] = field(default_factory=set)
    """The ids of the look-up. Those that it lacks are unknown to storage."""
    scores: dict[PairNeed, float] = field(default_factory=dict)
    more: dict[MoreNeed, More] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rule saw when it decided an image, and what came of it."""

    verdict: Verdict
    """As overrides leave it; the moves of the images that follow come last."""
    subject: Subject
    placed: Sequence[Placed]
    """The matches, best first, with their clusters."""
    pages: Sequence[More]
    """The further pages of candidates that it asked for."""
    score: PairScore
    """The scores that were known; None where the rule did not ask for one."""
    forbidden: Sequence[Placed] = ()
    """The matches that overrides kept from the rule, best first."""
    unadopted: frozenset[ImageId] = frozenset()
    """The singletons that the rule would have adopted, had no override named them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions up to the first image that lacks something, and all that the batch is known to lack."""

    decisions: tuple[Decision, ...]
    ids: frozenset[ImageId]
    """Images to look up."""
    pairs: tuple[PairNeed, ...]
    more: tuple[MoreNeed, ...]
    judgements: Mapping[int, Judgement] = field(default_factory=dict, compare=False)
    """By position, of the decisions that a rule made."""
    ended: bool = False
    """What comes after these decisions rests on what storage makes of them: write them, and look up again."""


def plan(arrivals: Sequence[Arrival], knowledge: Knowledge, now_ms: int, rule: ClusterRule = judge) -> Plan:
    """Decides a batch as far as the known facts allow.

    Args:
        arrivals: Records of the order, consecutive, from the one after the look-up's position on.
        knowledge: What is known so far.
        now_ms: The time of the decisions, in milliseconds since the epoch.
        rule: Decides which head an image joins.

    Raises:
        MismatchError: A candidate has an earlier place, but storage does not know it: index and storage contradict
            each other.
    """
    if knowledge.lookup is None:
        return Plan((), frozenset().union(*map(_ids, arrivals)), (), ())
    planner = _Planner(knowledge, knowledge.lookup, now_ms, rule)
    decisions: list[Decision] = []
    certain, ended = True, False
    for arrival in arrivals:
        renames = planner.renames(arrival)
        if renames and decisions:
            ended = certain
            break
        decision, complete = planner.decide(arrival)
        certain = certain and complete
        if certain:
            decisions.append(decision)
        if renames:
            ended = certain
            break
    return Plan(
        tuple(decisions),
        frozenset(planner.ids),
        tuple(planner.pairs),
        tuple(planner.more),
        planner.judgements,
        ended,
    )


def _ids(arrival: Arrival) -> set[ImageId]:
    """The images that must be looked up for a record: its own, its matches, and the head that a manifest says."""
    if not arrival.image_id:
        return set()
    said = {arrival.asks.head} if isinstance(arrival.asks, Joining) else set[ImageId]()
    return {arrival.image_id, *said, *(match.candidate.image_id for match in arrival.matches)}


class _Planner:
    """One pass over a batch: the staged look-up, and what turned out to be lacking (in order, each once)."""

    def __init__(self, knowledge: Knowledge, lookup: Lookup, now_ms: int, rule: ClusterRule) -> None:
        self._knowledge = knowledge
        self._staged = StagedLookup(lookup)
        self._now_ms = now_ms
        self._rule = rule
        self._offset = lookup.position.offset
        self.ids: set[ImageId] = set()
        self.pairs: dict[PairNeed, None] = {}
        self.more: dict[MoreNeed, None] = {}
        self.judgements: dict[int, Judgement] = {}

    def renames(self, arrival: Arrival) -> bool:
        """Whether a record makes storage give a cluster another head. Such a record is decided alone."""
        asks = arrival.asks
        return isinstance(asks, Deleting) and asks.forget and self._staged.names_others(arrival.image_id)

    def decide(self, arrival: Arrival) -> tuple[Decision, bool]:
        """The decision on a record, staged for the records after it, and whether nothing was lacking for it."""
        if not arrival.image_id:
            unreadable = self._decision(arrival, Outcome.UNREADABLE, arrival.offset)
            return replace(unreadable, dead_letter=arrival.dead_letter), True
        if not self._is_known(arrival.image_id):
            return self._decision(arrival, Outcome.SUPERSEDED, arrival.offset), False
        match arrival.asks:
            case Deleting() as deleting:
                decision, complete = self._delete(arrival, deleting), True
            case Replaying() as replaying:
                decision, complete = self._replay(arrival, replaying)
            case Joining() as joining:
                decision, complete = self._join(arrival, joining)
            case _:
                decision, complete = self._decide_image(arrival)
        self._staged.stage(decision)
        return decision, complete

    def _decide_image(self, arrival: Arrival) -> tuple[Decision, bool]:
        seen = self._seen_before(arrival)
        if seen is not None:
            return seen, True
        moves, complete = self._moves(arrival)
        return self._decision(arrival, Outcome.DECIDED, _place(arrival), moves), complete

    def _seen_before(self, arrival: Arrival) -> Decision | None:
        """The decision on a version that was placed or deleted before, or is below such a one; None: it is new."""
        membership = self._staged.membership(arrival.image_id)
        if membership is not None and membership.version == arrival.version:
            return self._decision(arrival, Outcome.DUPLICATE, membership.place)
        if self._staged.last_version(arrival.image_id) >= arrival.version:
            return self._decision(arrival, Outcome.SUPERSEDED, _place(arrival))
        return None

    def _join(self, arrival: Arrival, asks: Joining) -> tuple[Decision, bool]:
        """The decision on a row of a manifest, which passes a version that was placed before as an image does."""
        seen = self._seen_before(arrival)
        if seen is not None:
            result = RowResult.KEPT if seen.outcome is Outcome.DUPLICATE else RowResult.SUPERSEDED
            return replace(seen, member=MemberRow(asks.manifest_id, asks.row, result)), True
        moves, result, complete = self._row_moves(arrival, asks)
        decision = self._decision(arrival, Outcome.DECIDED, _place(arrival), moves)
        return replace(decision, member=MemberRow(asks.manifest_id, asks.row, result)), complete

    def _row_moves(self, arrival: Arrival, asks: Joining) -> tuple[tuple[Move, ...], RowResult, bool]:
        subject = self._subject(arrival)
        if arrival.unscored:
            own, result, known = unscored_move(subject), RowResult.UNSCORED, True
        else:
            known = self._is_known(asks.head)
            pinned = self._pinned(subject)
            own, result = joined(subject, asks, self._staged, None if pinned is None else pinned.moves[0])
            known = known and (pinned is None or pinned.complete)
        ruled = self._obeyed((own,))
        return ruled.moves, result, known and not ruled.lacking

    def _delete(self, arrival: Arrival, asks: Deleting) -> Decision:
        tombstone, moves = deletion(arrival, asks, self._staged)
        decision = self._decision(arrival, Outcome.DELETED, arrival.offset)
        version = 0 if tombstone is None else tombstone.version
        forget = asks.forget and tombstone is not None
        return replace(decision, version=version, moves=moves, tombstone=tombstone, forget=forget)

    def _replay(self, arrival: Arrival, asks: Replaying) -> tuple[Decision, bool]:
        """The decision on a replay. Its image may have been deleted since it was asked for, or never been there."""
        request, last = asks.request, self._staged.verdict(arrival.image_id)
        membership = self._staged.membership(arrival.image_id)
        placed = places(arrival, membership, last)
        if request is not None and self._staged.applied(request):
            if not placed:
                return replace(self._decision(arrival, Outcome.DUPLICATE, _place(arrival)), request=request), True
            request = None  # the index knows no requests: where it has placed the image, storage follows
        nothing = replace(
            self._decision(arrival, Outcome.REPLAYED, _place(arrival)),
            dead_letter=None if asks.dry_run else arrival.dead_letter,
            request=request,
        )
        if self._staged.tombstone(arrival.image_id) is not None or (not placed and is_settled(arrival, asks, last)):
            return nothing, True
        if membership is not None or not placed:
            self._check_version(arrival)
        moves, complete = self._moves(arrival)
        if asks.dry_run:
            return nothing, complete
        if membership is not None and last is not None and not (asks.force or placed):
            moves = changes(arrival, moves, membership, last)
        if not moves:
            return nothing, complete
        place = arrival.offset if placed or membership is None else membership.place
        decided = self._decision(arrival, Outcome.REPLAYED, place, moves)
        return replace(decided, dead_letter=nothing.dead_letter, request=request), complete

    def _check_version(self, arrival: Arrival) -> None:
        """The index found an image that was placed before: storage must know the same version of it."""
        membership = self._staged.membership(arrival.image_id)
        if membership is None or membership.version != arrival.version:
            known = "no version" if membership is None else f"version {membership.version}"
            raise MismatchError(
                f"the index has version {arrival.version} of the image {arrival.image_id!r} at place {arrival.place}, "
                f"which is replayed at offset {arrival.offset}, but storage (at offset {self._offset}) has {known}: "
                f"index and storage do not follow the same order; rebuild the index from storage"
            )

    def _moves(self, arrival: Arrival) -> tuple[tuple[Move, ...], bool]:
        subject = self._subject(arrival)
        if arrival.unscored:
            ruled = self._obeyed((unscored_move(subject),))
            return ruled.moves, not ruled.lacking
        judgement, all_known = self._judge(arrival, subject)
        verdict = judgement.verdict
        ruled = self._obeyed(verdict.moves)
        if ruled.moves != verdict.moves:
            judgement = replace(judgement, verdict=replace(verdict, moves=ruled.moves), unadopted=ruled.unadopted)
        self.judgements[arrival.offset] = judgement
        return ruled.moves, all_known and verdict.complete and not ruled.lacking

    def _subject(self, arrival: Arrival) -> Subject:
        home = self._staged.home(arrival.image_id)
        return Subject(arrival.image_id, arrival.score_code, arrival.thresholds or NOTHING_MATCHES, home)

    def _is_known(self, image_id: ImageId) -> bool:
        """Whether an image was looked up, or an earlier record of the batch placed it. If not, that is noted."""
        if self._staged.membership(image_id) is not None or image_id in self._knowledge.asked:
            return True
        self.ids.add(image_id)
        return False

    def _obeyed(self, moves: tuple[Move, ...]) -> Obeyed:
        """The moves as overrides leave them. What is lacking for that is noted."""
        if not self._staged.has_rules:
            return Obeyed(moves)
        ruled = obeyed(moves, self._staged, self._knowledge.asked)
        self.ids |= ruled.lacking
        return ruled

    def _judge(self, arrival: Arrival, subject: Subject) -> tuple[Judgement, bool]:
        """The judgement on as many pages as it needs, and whether all ids, pages and scores of pages were known."""
        scores = _Scores(arrival, self._knowledge.scores, self.pairs)
        found = arrival.matches
        after, exhausted, pages = arrival.next_candidate, arrival.exhausted, list[More]()
        pinned = self._pinned(subject)
        while True:
            placed, forbidden, all_known = self._placed(arrival, found, subject)
            verdict = pinned or self._rule(subject, placed, scores)
            judgement = Judgement(verdict, subject, placed, pages, scores.known, forbidden)
            if not all_known or not _refused(judgement) or exhausted or len(pages) == MAX_EXTRA_PAGES:
                return judgement, all_known
            need = MoreNeed(arrival.place, after, arrival.offset)
            page = self._knowledge.more.get(need)
            if page is None:
                self.more[need] = None
                return judgement, False
            scored = scores.of_page(page.candidates)
            if scored is None:
                return judgement, False
            found = matches(arrival.image_id, [*found, *scored], subject.thresholds.accept)
            after, exhausted = after + len(page.candidates), arrival.is_last(page)
            pages.append(page)

    def _pinned(self, subject: Subject) -> Verdict | None:
        """The verdict on an image that follows its pin; None if the rule decides."""
        pin = pin_of(subject, self._staged) if self._staged.has_rules else None
        if pin is None:
            return None
        image_id, old_head = subject.image_id, subject.old_head
        if not self._is_known(pin.target):
            return Verdict((Move(image_id, old_head, image_id, Cause.FOUNDED),), complete=False, refused=False)
        own = Move(image_id, old_head, pin.head, Cause.PINNED, None, pin.target)
        return Verdict((own,), complete=True, refused=False)

    def _placed(
        self, arrival: Arrival, found: Sequence[Match], subject: Subject
    ) -> tuple[Sequence[Placed], Sequence[Placed], bool]:
        """The matches with their clusters, which the image has left, those that are forbidden, and whether all of them
        were looked up.
        """
        placed: list[Placed] = []
        all_known = True
        for match in found:
            image_id = match.candidate.image_id
            membership = self._staged.membership(image_id)
            if membership is not None:
                placed.append(Placed(match, without_subject(subject, self._staged.cluster(membership.head))))
            elif self._staged.tombstone(image_id) is not None:
                continue  # the index was not told that it was deleted
            elif image_id in self._knowledge.asked:
                raise MismatchError(
                    f"the index has the image {image_id!r} at place {match.candidate.place}, a candidate for offset "
                    f"{arrival.offset}, but storage (at offset {self._offset}) does not know it: index and storage "
                    f"do not follow the same order; rebuild the index from storage"
                )
            else:
                self.ids.add(image_id)
                all_known = False
        if not self._staged.has_rules:
            return placed, (), all_known
        return *offered(subject, placed, self._staged), all_known

    def _decision(
        self, arrival: Arrival, outcome: Outcome, place: int, moves: tuple[Move, ...] | None = None
    ) -> Decision:
        """The decision on a record; one with moves has all that storage keeps of the image."""
        bare = moves is None
        return Decision(
            offset=arrival.offset,
            checksum=arrival.checksum,
            outcome=outcome,
            image_id=arrival.image_id,
            version=arrival.version,
            place=place,
            moves=moves or (),
            score_code=b"" if bare else arrival.score_code,
            search_vector=b"" if bare else arrival.search_vector,
            score_vector=b"" if bare else arrival.score_vector,
            versions=arrival.versions,
            created_at_ms=arrival.created_at_ms,
            arrived_at_ms=arrival.arrived_at_ms,
            decided_at_ms=self._now_ms,
            truncated=arrival.truncated and not bare,
            dead_letter=None if bare else arrival.dead_letter,
        )


class _Scores:
    """The known scores for one image. It notes the pairs that are lacking."""

    def __init__(self, arrival: Arrival, known: Mapping[PairNeed, float], lacking: dict[PairNeed, None]) -> None:
        self._arrival = arrival
        self._known = known
        self._lacking = lacking

    def __call__(self, one: bytes, other: bytes) -> float | None:
        """The score of two codes, noted if it is lacking."""
        score = self.known(one, other)
        if score is None:
            self._lacking[pair_need(self._arrival.versions.model, one, other)] = None
        return score

    def known(self, one: bytes, other: bytes) -> float | None:
        """The score of two codes: it came with a candidate of the image, or it was fetched."""
        code = self._arrival.score_code
        if code in (one, other):
            own = self._arrival.known_scores.get(other if one == code else one)
            if own is not None:
                return own
        return self._known.get(pair_need(self._arrival.versions.model, one, other))

    def of_page(self, candidates: Sequence[Candidate]) -> list[Match] | None:
        """The candidates of a further page that count, with their scores; None while a score is lacking."""
        scored: list[Match] = []
        complete = True
        for candidate in filter(self._arrival.is_near, candidates):
            score = self(self._arrival.score_code, candidate.score_code)
            if score is None:
                complete = False
            else:
                scored.append(Match(candidate, score))
        return scored if complete else None


NOTHING_MATCHES = Thresholds(float("inf"), float("inf"), float("inf"))
"""For an image without candidates."""


def _refused(judgement: Judgement) -> bool:
    """Whether no match may give the image its head, so that further candidates may help."""
    verdict = judgement.verdict
    if judgement.placed or not judgement.forbidden:
        return verdict.refused
    return verdict.complete and verdict.moves[0].cause is Cause.FOUNDED


def _place(arrival: Arrival) -> int:
    """The place of the image version; for a record that the index skipped, its offset."""
    return arrival.place if arrival.place >= 0 else arrival.offset


def without_subject(subject: Subject, cluster: Cluster) -> Cluster:
    """A cluster after the subject has left it."""
    if subject.home is None or cluster.head != subject.home.head:
        return cluster
    return replace(cluster, count=cluster.count - 1)
