"""A small world for the cluster rule: a log, an index and a scorer that know everything, a store, and a naive oracle.

Scores and overlaps are random but symmetric functions of two codes. Nothing here shares code with what it tests.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clustering.assignment import Arrival, More, MoreNeed, PairNeed
from core.errors import LogGapError, StaleError
from core.types import (
    Candidate,
    Cause,
    Cluster,
    Decision,
    ImageId,
    LogPosition,
    Lookup,
    Membership,
    Outcome,
    Thresholds,
    Versions,
)

Score = Callable[[bytes, bytes], float]

MODEL = "model-1"

_HALF = Thresholds(0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Record:
    """One record of the log `joined`."""

    image_id: str
    version: int = 1
    code: bytes = b"a"
    fate: str = "scored"
    """"scored", "skipped" (the index could not take it), "faulted" (the scorer could not), "nameless"."""


def random_score(seed: int) -> Score:
    """A symmetric random function of two codes, float32 values in 0..1; a code equals itself."""

    def score(one: bytes, other: bytes) -> float:
        if one == other:
            return 1.0
        low, high = sorted((one, other))
        return float(np.float32(zlib.crc32(b"%d/%b/%b" % (seed, low, high)) / 2**32))

    return score


def random_overlap(one: bytes, other: bytes, highest: int) -> int:
    """A symmetric random number of shared terms, 0 to `highest`."""
    low, high = sorted((one, other))
    return zlib.crc32(b"overlap/%b/%b" % (low, high)) % (highest + 1)


@dataclass(frozen=True)
class Entry:
    """An image version in the index."""

    image_id: ImageId
    version: int
    place: int
    code: bytes


@dataclass
class World:
    """The log and the two servers that answer from it: exact, unlimited, without time."""

    log: list[Record]
    score_of: Score
    thresholds: Thresholds = _HALF
    k: int = 4
    overlap_of: Callable[[bytes, bytes], int] = lambda one, other: random_overlap(one, other, 3)
    hide_delay: int = 0
    """A faulted image is still found by so many later places, because it is hidden after its batch was searched."""
    entries: list[Entry] = field(default_factory=list)
    _answers: dict[int, Entry | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        latest: dict[str, int] = {}
        for offset, record in enumerate(self.log):
            key = (record.image_id, record.version)
            known = next((e for e in self.entries if (e.image_id, e.version) == key), None)
            if record.fate in ("skipped", "nameless"):
                self._answers[offset] = None
            elif known is not None:
                self._answers[offset] = known
            elif record.version < latest.get(record.image_id, -1):
                self._answers[offset] = None
            else:
                latest[record.image_id] = record.version
                entry = Entry(ImageId(record.image_id), record.version, offset, record.code)
                self.entries.append(entry)
                self._answers[offset] = entry

    def arrivals(self, start: int = 0, stop: int | None = None) -> list[Arrival]:
        """The records of these offsets with what search and scorer say."""
        return [self.arrival(offset) for offset in range(start, len(self.log) if stop is None else stop)]

    def arrival(self, offset: int) -> Arrival:
        """One record with what search and scorer say."""
        record, entry = self.log[offset], self._answers[offset]
        found = self.candidates(entry) if entry is not None else []
        scored = record.fate == "scored"
        return Arrival(
            offset=offset,
            checksum=zlib.crc32(b"%d" % offset),
            image_id=ImageId("" if record.fate == "nameless" else record.image_id),
            version=record.version,
            place=-1 if entry is None else entry.place,
            score_code=b"" if entry is None else entry.code,
            candidates=tuple(found[: self.k]),
            scores=tuple(self.score_of(record.code, c.score_code) for c in found[: self.k]) if scored else (),
            exhausted=len(found) <= self.k,
            thresholds=self.thresholds if scored else None,
            versions=Versions(MODEL, "index-1"),
            unscored="" if scored else record.fate,
            search_vector=b"search",
            score_vector=b"score",
            created_at_ms=1,
            arrived_at_ms=2,
        )

    def candidates(self, searched: Entry) -> list[Candidate]:
        """All candidates of an entry, by overlap, then age."""
        newest: dict[ImageId, Entry] = {}
        for entry in self.entries:
            if (
                entry.place < searched.place
                and entry.image_id != searched.image_id
                and not self._hidden(entry, searched)
            ):
                newest[entry.image_id] = entry
        found = [
            Candidate(e.image_id, e.place, overlap, e.code)
            for e in newest.values()
            if (overlap := self.overlap_of(searched.code, e.code)) > 0
        ]
        return sorted(found, key=lambda c: (-c.overlap, c.place))

    def _hidden(self, entry: Entry, searched: Entry) -> bool:
        return self.log[entry.place].fate == "faulted" and searched.place > entry.place + self.hide_delay


class ReferenceStore:
    """The simplest storage: applies moves one by one and checks each against its state."""

    def __init__(self) -> None:
        self.heads: dict[ImageId, ImageId] = {}
        self.versions: dict[ImageId, int] = {}
        self.places: dict[ImageId, int] = {}
        self.founding: dict[ImageId, bytes] = {}
        self.members: dict[ImageId, set[ImageId]] = {}
        self.position = LogPosition("log")
        self.revision = 0
        self.decisions: list[Decision] = []

    def look_up(self, ids: Collection[ImageId]) -> Lookup:
        """Memberships and clusters at the current position."""
        known = [i for i in ids if i in self.heads]
        memberships = {i: Membership(i, self.versions[i], self.places[i], self.heads[i]) for i in known}
        clusters = {
            head: Cluster(head, len(self.members[head]), self.founding[head]) for head in {self.heads[i] for i in known}
        }
        return Lookup(self.position, self.revision, memberships, clusters)

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        """Applies all decisions or none, only at this offset and revision."""
        if (offset, revision) != (self.position.offset, self.revision):
            raise StaleError("moved on", self.position.offset, self.revision)
        assert decisions, "an empty write"
        for expected, decision in enumerate(decisions, offset + 1):
            if decision.offset != expected:
                raise LogGapError("gap", expected)
        for decision in decisions:
            self._apply(decision)
        self.check_law_2()

    def _apply(self, decision: Decision) -> None:
        if decision.outcome is not Outcome.DECIDED:
            assert not decision.moves
        else:
            assert decision.moves[0].image_id == decision.image_id
            assert self.versions.get(decision.image_id, -1) < decision.version
        for move in decision.moves:
            assert self.heads.get(move.image_id) == move.old_head, (move, decision)
            if move.image_id != decision.image_id:
                assert move.cause is Cause.ADOPTED
                assert self.members[move.image_id] == {move.image_id}, "only singletons are adopted"
            stays = move.old_head == move.new_head == move.image_id and len(self.members[move.image_id]) > 1
            if stays:
                continue
            if move.old_head is not None:
                self.members[move.old_head].remove(move.image_id)
                if move.old_head == move.image_id:
                    assert not self.members[move.image_id], "a head with members stays"
                    del self.members[move.image_id], self.founding[move.image_id]
            if move.new_head == move.image_id:
                assert move.image_id not in self.members
                self.members[move.image_id] = set()
                self.founding[move.image_id] = decision.score_code
            self.members[move.new_head].add(move.image_id)
            self.heads[move.image_id] = move.new_head
        if decision.moves:
            self.versions[decision.image_id] = decision.version
            self.places[decision.image_id] = decision.place
        self.position = LogPosition("log", decision.offset, decision.checksum)
        self.decisions.append(decision)

    def check_law_2(self) -> None:
        """members(h) == {i : head(i) == h}, head(h) == h, no empty cluster."""
        inverse: dict[ImageId, set[ImageId]] = {}
        for image_id, head in self.heads.items():
            inverse.setdefault(head, set()).add(image_id)
        assert inverse == self.members
        assert all(self.heads[head] == head for head in self.members)
        assert self.founding.keys() == self.members.keys()


@dataclass
class WorldPorts:
    """The servers of a world. They count calls; `before_apply` and `before_look_up` run before a call, to interfere."""

    world: World
    store: ReferenceStore
    before_look_up: Callable[[], None] = lambda: None
    before_apply: Callable[[], None] = lambda: None
    calls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("look_up", "score", "more", "apply"), 0))
    scored: list[PairNeed] = field(default_factory=list)
    asked_more: list[MoreNeed] = field(default_factory=list)

    def look_up(self, ids: Collection[ImageId]) -> Lookup:
        """Storage."""
        self.calls["look_up"] += 1
        self.before_look_up()
        return self.store.look_up(ids)

    def score(self, pairs: Sequence[PairNeed]) -> Mapping[PairNeed, float]:
        """The scorer; fails on calls that a real one refuses or that no caller should make."""
        self.calls["score"] += 1
        assert pairs
        assert len(set(pairs)) == len(pairs), "asked twice in one call"
        assert not set(pairs) & set(self.scored), "asked again"
        assert all(pair.left and pair.right and pair.model_version == MODEL for pair in pairs)
        assert all(pair.left <= pair.right for pair in pairs)
        self.scored.extend(pairs)
        return {pair: self.world.score_of(pair.left, pair.right) for pair in pairs}

    def more(self, needs: Sequence[MoreNeed]) -> Mapping[MoreNeed, More]:
        """The index."""
        self.calls["more"] += 1
        assert needs
        assert not set(needs) & set(self.asked_more), "asked again"
        self.asked_more.extend(needs)
        return {need: self._page(need) for need in needs}

    def _page(self, need: MoreNeed) -> More:
        [entry] = [entry for entry in self.world.entries if entry.place == need.place]
        found = self.world.candidates(entry)
        end = need.after + self.world.k
        return More(tuple(found[need.after : end]), len(found) <= end)

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        """Storage."""
        self.calls["apply"] += 1
        self.before_apply()
        self.store.apply(decisions, offset, revision)


@dataclass
class NaiveState:
    """The result of the oracle."""

    heads: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    founding: dict[str, bytes] = field(default_factory=dict)
    history: list[tuple[int, str, str | None, str, str]] = field(default_factory=list)
    """(offset, image, old head, new head, cause)"""

    def count(self, head: str) -> int:
        """Members of a head, itself included."""
        return sum(1 for other in self.heads.values() if other == head)


def naive(world: World, extra_pages: int = 4) -> NaiveState:
    """The oracle: applies the cluster rule literally, one record at a time, with every score known."""
    state = NaiveState()
    for arrival in world.arrivals():
        image = arrival.image_id
        if not image or state.versions.get(image, -1) >= arrival.version:
            continue
        _naive_decide(world, state, arrival, extra_pages)
        state.versions[image] = arrival.version
    return state


def _naive_decide(world: World, state: NaiveState, arrival: Arrival, extra_pages: int) -> None:
    image, limits = arrival.image_id, world.thresholds
    old = state.heads.get(image)

    def move(who: str, before: str | None, to: str, cause: str) -> None:
        state.heads[who] = to
        state.history.append((arrival.offset, who, before, to, cause))

    keeps = old == image and state.count(image) > 1
    if arrival.unscored:
        if not keeps:
            state.founding[image] = arrival.score_code
        move(image, old, image, "unscored")
        return
    if old is not None and not keeps:
        del state.heads[image]
    listed: list[Candidate] = []
    head, cause = image, "founded"
    for page in _naive_pages(world, arrival, 1 + extra_pages):
        listed.extend(page)
        ranked = _naive_matches(world, arrival, listed)
        accepting = [m for m in ranked if _naive_accepts(world, state, m, arrival.score_code)]
        if keeps or not ranked:
            break
        if accepting:
            head, cause = state.heads[accepting[0].image_id], "matched"
            break
    if keeps:
        cause = "kept"
    elif head == image:
        state.founding[image] = arrival.score_code
    move(image, old, head, cause)
    for match in _naive_matches(world, arrival, listed):
        lone = match.image_id
        codes = state.founding.get(lone, b""), state.founding[head]
        if lone in (image, head) or state.heads[lone] != lone or state.count(lone) != 1 or not all(codes):
            continue
        if world.score_of(*codes) >= limits.adopt:
            move(lone, lone, head, "adopted")


def _naive_pages(world: World, arrival: Arrival, count: int) -> Iterator[list[Candidate]]:
    [entry] = [entry for entry in world.entries if entry.place == arrival.place]
    found = world.candidates(entry)
    for page in range(count):
        if page == 0 or found[page * world.k :]:
            yield found[page * world.k : (page + 1) * world.k]


def _naive_matches(world: World, arrival: Arrival, listed: list[Candidate]) -> list[Candidate]:
    scored = [(world.score_of(arrival.score_code, c.score_code), c) for c in listed]
    ranked = sorted(scored, key=lambda pair: (-pair[0], -pair[1].overlap, pair[1].place))
    return [c for score, c in ranked if score >= world.thresholds.accept]


def _naive_accepts(world: World, state: NaiveState, match: Candidate, code: bytes) -> bool:
    founding = state.founding[state.heads[match.image_id]]
    return bool(founding) and world.score_of(code, founding) >= world.thresholds.head_accept
