"""The assignment of a batch of records of the order to clusters: plan, fetch what is lacking, write.

Storage is the truth: its offset says what is committed, and it takes a write only if offset and override revision are
those that the decisions rest on. If they are not (a second job, an override), what is committed meanwhile is dropped
and the rest is decided anew on a fresh look-up. Scores and pages of candidates do not age and are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from clustering.arrivals import Arrival, Backend, More, MoreNeed, PairNeed, pair_need
from clustering.planning import Knowledge, Plan, plan
from core.errors import BadInputError, FaultError, LogGapError, StaleError, UnavailableError
from core.types import ImageId, Lookup

__all__ = [
    "Arrival",
    "Backend",
    "Knowledge",
    "More",
    "MoreNeed",
    "PairNeed",
    "Plan",
    "assign",
    "pair_need",
    "plan",
]

STALE_TRIES = 20
"""How many writes of one batch may lose against others before the batch waits."""


def assign(arrivals: Sequence[Arrival], ports: Backend, now_ms: int, rounds: int = 5) -> int:
    """Settles a batch, or a front part of it.

    Args:
        arrivals: Records of the order, with consecutive offsets.
        ports: The servers.
        now_ms: The time of the decisions, in milliseconds since the epoch.
        rounds: After so many rounds of fetching, the batch is cut before the first image that still lacks something.
            The first image of the batch goes on until it is complete.

    Returns:
        How many arrivals, from the front, are settled: committed now or before. At least 1 unless there are none.

    Raises:
        BadInputError: The offsets are not consecutive.
        MismatchError: Index and storage contradict each other.
        LogGapError: The batch begins after the next offset that storage would take.
        ServiceError: A server could not answer; what is settled stays settled, and the same call can be made again.
    """
    _check_consecutive(arrivals)
    if not arrivals:
        return 0
    gathered = _Gathered()
    for _ in range(STALE_TRIES):
        pending, planned, lookup = _decide(arrivals, gathered, ports, now_ms, rounds)
        settled = len(arrivals) - len(pending)
        if not pending:
            return settled
        try:
            ports.apply(planned.decisions, lookup.position.offset, lookup.revision)
        except StaleError:
            gathered.lookup = None
            continue
        return settled + len(planned.decisions)
    raise UnavailableError(f"storage changed {STALE_TRIES} times while offset {arrivals[0].offset} and on were decided")


@dataclass
class _Gathered:
    """What was found out for one batch; `lookup` is None when it has to be made (anew)."""

    lookup: Lookup | None = None
    ids: set[ImageId] = field(default_factory=set)
    scores: dict[PairNeed, float] = field(default_factory=dict)
    more: dict[MoreNeed, More] = field(default_factory=dict)

    def knowledge(self) -> Knowledge:
        return Knowledge(self.lookup, self.ids, self.scores, self.more)


def _decide(
    arrivals: Sequence[Arrival], gathered: _Gathered, ports: Backend, now_ms: int, rounds: int
) -> tuple[Sequence[Arrival], Plan, Lookup]:
    """Plans and fetches until there are decisions to write: what is not committed yet, its plan, the look-up used."""
    round_number = 0
    while True:
        lookup = gathered.lookup or _look_up(arrivals, gathered, ports)
        pending = _not_committed(arrivals, lookup)
        planned = plan(pending, gathered.knowledge(), now_ms)
        if len(planned.decisions) == len(pending) or (planned.decisions and round_number >= rounds):
            return pending, planned, lookup
        _fetch(planned, pending, gathered, ports)
        round_number += 1


def _look_up(arrivals: Sequence[Arrival], gathered: _Gathered, ports: Backend) -> Lookup:
    """One look-up of all ids that are known to matter, so that all memberships are of one moment."""
    gathered.ids |= plan(arrivals, Knowledge(), 0).ids
    gathered.lookup = ports.look_up(gathered.ids)
    return gathered.lookup


def _fetch(planned: Plan, pending: Sequence[Arrival], gathered: _Gathered, ports: Backend) -> None:
    """Fetches all that the plan lacks, and at once the scores of the further candidates that this brings."""
    pairs = dict.fromkeys(planned.pairs)
    if planned.more:
        pages = ports.more(planned.more)
        _check_answered("search", planned.more, pages)
        gathered.more.update(pages)
        asking = {arrival.place: arrival for arrival in reversed(pending)}
        for need in planned.more:
            asks = asking[need.place]
            for candidate in pages[need].candidates:
                pairs[pair_need(asks.versions.model, asks.score_code, candidate.score_code)] = None
    lacking = [pair for pair in pairs if pair not in gathered.scores]
    if lacking:
        scores = ports.score(lacking)
        _check_answered("the scorer", lacking, scores)
        gathered.scores.update(scores)
    if planned.ids:
        gathered.ids |= planned.ids
        gathered.lookup = None


def _check_answered(who: str, needs: Collection[Hashable], answers: Mapping[Any, object]) -> None:
    missing = sum(need not in answers for need in needs)
    if missing:
        raise FaultError(f"{who} left {missing} of {len(needs)} questions unanswered")


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
