"""Assigns a batch of records of the order to clusters: plans, fetches what is lacking, writes.

Storage is the truth. Its offset says what is committed, and it takes a write only if it still has the offset and the
revision that the decisions rest on. If it has others (a second job, an override), records that were committed
meanwhile are dropped, and the rest is decided again on a fresh look-up. Scores and pages of candidates stay valid.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from clustering.arrivals import Arrival, Backend, Deleting, Joining, More, MoreNeed, PairNeed, Replaying, pair_need
from clustering.planning import Judgement, Knowledge, Plan, plan
from clustering.rule import ClusterRule, judge
from core.errors import BadInputError, FaultError, LogGapError, StaleError, UnavailableError
from core.types import Decision, Lookup

__all__ = [
    "Arrival",
    "Backend",
    "Committed",
    "Deleting",
    "Joining",
    "Judgement",
    "Knowledge",
    "More",
    "MoreNeed",
    "PairNeed",
    "Plan",
    "Replaying",
    "assign",
    "pair_need",
    "plan",
]

STALE_TRIES = 20
"""How many writes of one batch may be stale, without any progress of the store, before the batch waits."""

Committed = Callable[[Arrival, Decision | None, Judgement | None], None]
"""Told of a record that is committed: the decision, None if an earlier call wrote it; what a rule judged it on."""


def assign(
    arrivals: Sequence[Arrival],
    backend: Backend,
    now_ms: int,
    rounds: int = 5,
    rule: ClusterRule = judge,
    committed: Committed | None = None,
) -> int:
    """Decides and writes a batch, or the front of it.

    Args:
        arrivals: Records of the order, with consecutive offsets.
        backend: The servers.
        now_ms: The time of the decisions, in milliseconds since the epoch.
        rounds: After so many rounds of fetching, the batch ends before the first image that still lacks something.
            The first image of the batch is fetched for until it is complete.
        rule: Decides which head an image joins.
        committed: Told of each record that is committed, in order, before this returns.

    Returns:
        How many arrivals, from the front, are committed, now or before. At least 1 unless there are none.

    Raises:
        BadInputError: The offsets are not consecutive.
        MismatchError: Index and storage contradict each other.
        LogGapError: The batch begins after the next offset that storage takes.
        ServiceError: A server could not answer. What is committed stays so, and the same call can be made again.
    """
    _check_consecutive(arrivals)
    if not arrivals:
        return 0
    batch = _Batch(arrivals, backend, now_ms, rule)
    tries = 0
    while tries < STALE_TRIES:
        pending, planned, lookup = batch.decide(rounds)
        if pending:
            try:
                backend.apply(planned.decisions, lookup.position.offset, lookup.revision)
            except StaleError as error:
                batch.known.lookup = None
                tries = 0 if error.offset > lookup.position.offset else tries + 1
                continue
        before = len(arrivals) - len(pending)
        if committed is not None:
            for arrival in arrivals[:before]:
                committed(arrival, None, None)
            for arrival, decision in zip(pending, planned.decisions, strict=False):
                committed(arrival, decision, planned.judgements.get(decision.offset))
        return before + len(planned.decisions)
    raise UnavailableError(f"storage changed {STALE_TRIES} times while offset {arrivals[0].offset} and on were decided")


class _Batch:
    """One batch while it is decided: what is known of it grows round by round."""

    def __init__(self, arrivals: Sequence[Arrival], backend: Backend, now_ms: int, rule: ClusterRule) -> None:
        self.known = Knowledge()
        self._arrivals = arrivals
        self._backend = backend
        self._now_ms = now_ms
        self._rule = rule

    def decide(self, rounds: int) -> tuple[Sequence[Arrival], Plan, Lookup]:
        """Plans and fetches until there are decisions to write: the pending records, their plan, its look-up."""
        round_number = 0
        while True:
            lookup = self.known.lookup or self._look_up()
            pending = _not_committed(self._arrivals, lookup)
            planned = plan(pending, self.known, self._now_ms, self._rule)
            enough = planned.ended or round_number >= rounds
            if len(planned.decisions) == len(pending) or (planned.decisions and enough):
                return pending, planned, lookup
            self._fetch(planned, pending)
            round_number += 1

    def _look_up(self) -> Lookup:
        """One look-up of all ids that are known to matter, so that all memberships are of one moment."""
        self.known.asked |= plan(self._arrivals, Knowledge(), 0).ids
        replayed = {each.image_id for each in self._arrivals if isinstance(each.asks, Replaying)}
        self.known.lookup = lookup = self._backend.look_up(self.known.asked, replayed)
        return lookup

    def _fetch(self, planned: Plan, pending: Sequence[Arrival]) -> None:
        """Fetches all that the plan lacks, and in the same round the scores of the pages that it brings."""
        known = self.known
        pairs = dict.fromkeys(planned.pairs)
        if planned.more:
            pages = self._backend.more(planned.more)
            _check_answered("search", planned.more, pages)
            known.more.update(pages)
            asking = {arrival.offset: arrival for arrival in pending}
            for need in planned.more:
                pairs.update(dict.fromkeys(asking[need.as_of].pairs_with(pages[need].candidates)))
        lacking = [pair for pair in pairs if pair not in known.scores]
        if lacking:
            scores = self._backend.score(lacking)
            _check_answered("the scorer", lacking, scores)
            known.scores.update(scores)
        if planned.ids:
            known.asked |= planned.ids
            known.lookup = None


def _check_answered(who: str, needs: Collection[Hashable], answers: Mapping[Any, object]) -> None:
    missing = sum(need not in answers for need in needs)
    if missing:
        raise FaultError(f"{who} left {missing} of {len(needs)} requests unanswered")


def _not_committed(arrivals: Sequence[Arrival], lookup: Lookup) -> Sequence[Arrival]:
    """The arrivals after storage's offset."""
    expected = lookup.position.offset + 1
    first = arrivals[0].offset
    if first > expected:
        raise LogGapError(f"storage expects offset {expected}, the batch begins at {first}", expected)
    return arrivals[expected - first :]


def _check_consecutive(arrivals: Sequence[Arrival]) -> None:
    for before, after in pairwise(arrivals):
        if after.offset != before.offset + 1:
            raise BadInputError(f"offset {after.offset} follows {before.offset} in a batch")
