"""A small world for the cluster rule: a log, an index and a scorer that know everything.

Scores and overlaps are random but symmetric functions of two codes. Nothing here shares code with what it tests.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clustering.assignment import Arrival, Deleting, Joining, More, MoreNeed, PairNeed, Replaying
from core.types import (
    Candidate,
    Decision,
    ImageId,
    Lookup,
    RequestPosition,
    RequestSource,
    Thresholds,
    Versions,
)
from tests.support.reference_store import ReferenceStore

Score = Callable[[bytes, bytes], float]

MODEL = "model-1"

MANIFEST = "0f" * 16

NEWER_MODEL = "model-2"

REQUESTS = RequestSource("replay-topic", 0)

_HALF = Thresholds(0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Record:
    """One record of the log `joined`."""

    image_id: str
    version: int = 1
    """Of a replay: that of the image that it carries."""
    code: bytes = b"a"
    fate: str = "scored"
    """"scored", "skipped" (the index could not take it), "faulted" (the scorer could not), "nameless"."""
    kind: str = "image"
    """"image", "delete", "replay", "member"."""
    upto: int | None = None
    """Of a delete: the version; None: the one placed last."""
    forget: bool = False
    """Of a delete."""
    force: bool = False
    dry_run: bool = False
    carries: bool = False
    """Of a replay: whether it carries an image."""
    request: int | None = None
    """Of a replay: where its request lies."""
    head: str = ""
    """Of a member: the head that its row names."""
    row: int = 0
    """Of a member."""


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


def random_distance(one: bytes, other: bytes) -> int:
    """A symmetric random number of differing bits, 0 to 9."""
    low, high = sorted((one, other))
    return 0 if low == high else zlib.crc32(b"distance/%b/%b" % (low, high)) % 10


@dataclass
class Entry:
    """An image version in the index."""

    image_id: ImageId
    version: int
    place: int
    code: bytes
    gone_after: int = 2**62
    """Searches as of later positions do not find it: a higher version came, it was deleted, or it was placed anew."""


@dataclass(frozen=True)
class Found:
    """What the index answers for one record."""

    entry: Entry | None = None
    version: int = 0
    """Of a replay: the version placed last."""


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
    newer_from: int = 2**62
    """From this position on the scorer serves a newer model, which scores otherwise."""
    distance_of: Callable[[bytes, bytes], int] | None = None
    """Orders the candidates; None: their overlaps do."""
    gate: int | None = None
    """Of both models."""
    narrowed: bool = False
    """Arrivals have only the candidates that the rule can use, as they come from score."""
    entries: list[Entry] = field(default_factory=list)
    _answers: dict[int, Found] = field(default_factory=dict)
    _last: dict[str, tuple[int, bytes, Entry | None]] = field(default_factory=dict)
    """By image: the version placed last, its code, and its entry; None: it was skipped or deleted."""
    _deleted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        place = {"image": self._place, "member": self._place, "delete": self._delete, "replay": self._replay}
        for offset, record in enumerate(self.log):
            self._answers[offset] = Found() if record.fate == "nameless" else place[record.kind](offset, record)

    def _place(self, offset: int, record: Record) -> Found:
        version, _, entry = self._last.get(record.image_id, (-1, b"", None))
        if record.version < version:
            return Found()
        if record.version > version:
            entry = self._enter(offset, record, record.version, record.code)
        return Found(entry if record.fate != "skipped" else None)

    def _enter(self, offset: int, record: Record, version: int, code: bytes) -> Entry | None:
        entry = None
        if record.fate != "skipped":
            entry = Entry(ImageId(record.image_id), version, offset, code)
            self.entries.append(entry)
        self._leave(offset, record)
        self._last[record.image_id] = version, code, entry
        self._deleted.discard(record.image_id)
        return entry

    def _leave(self, offset: int, record: Record) -> None:
        known = self._last.get(record.image_id)
        if known is not None and known[2] is not None:
            known[2].gone_after = min(known[2].gone_after, offset)

    def _delete(self, offset: int, record: Record) -> Found:
        version = self._last.get(record.image_id, (-1, b"", None))[0]
        upto = version if record.upto is None else record.upto
        if upto >= max(version, 0):
            self._leave(offset, record)
            self._last[record.image_id] = upto, b"", None
            self._deleted.add(record.image_id)
        return Found()

    def _replay(self, offset: int, record: Record) -> Found:
        version, code, entry = self._last.get(record.image_id, (-1, b"", None))
        if record.image_id in self._deleted or record.fate == "skipped":
            return Found(None, max(version, 0))
        if entry is not None and not self._hidden(entry, offset):
            return Found(entry, version)
        if record.carries and not record.dry_run and version in (-1, record.version):
            return Found(self._enter(offset, record, record.version, code or record.code), record.version)
        return Found(None, max(version, 0))

    def model(self, offset: int) -> str:
        """The version of the model that is served at a position."""
        return MODEL if offset < self.newer_from else NEWER_MODEL

    def score(self, model: str, one: bytes, other: bytes) -> float:
        """The score of two codes by a version of the model."""
        return self.score_of(one, other) if model == MODEL else 1.0 - self.score_of(one, other)

    def arrivals(self, start: int = 0, stop: int | None = None) -> list[Arrival]:
        """The records of these offsets with what search and scorer say."""
        return [self.arrival(offset) for offset in range(start, len(self.log) if stop is None else stop)]

    def arrival(self, offset: int) -> Arrival:
        """One record with what search and scorer say."""
        record, answer = self.log[offset], self._answers[offset]
        entry, model = answer.entry, self.model(offset)
        found = self.candidates(entry, offset if record.kind == "replay" else entry.place) if entry is not None else []
        scored = record.fate == "scored"
        if record.kind == "member":
            found, model = [], "model-of-row"
        page = found[: self.k]
        near = [candidate for candidate in page if self.is_near(candidate)]
        if scored and self.narrowed and entry is not None:
            bar = min(self.thresholds.accept, self.thresholds.head_accept)
            near = [one for one in near if self.score(model, entry.code, one.score_code) >= bar]
        return Arrival(
            offset=offset,
            checksum=zlib.crc32(b"%d" % offset),
            image_id=ImageId("" if record.fate == "nameless" else record.image_id),
            version=answer.version if record.kind == "replay" else record.version,
            place=-1 if entry is None else entry.place,
            score_code=b"" if entry is None else entry.code,
            candidates=tuple(near),
            scores=tuple(self.score(model, entry.code, c.score_code) for c in near) if entry and scored else (),
            exhausted=len(found) <= self.k or not all(map(self.is_near, page)),
            thresholds=self.thresholds if scored and record.kind != "member" else None,
            versions=Versions(model if scored else "", "index-1"),
            unscored="" if scored else record.fate,
            search_vector=b"search",
            score_vector=b"score",
            created_at_ms=1,
            arrived_at_ms=2,
            asks=_asks(record),
            given=len(page),
            gate=self.gate if scored and record.kind != "member" else None,
            beyond_gate=() if self.narrowed else tuple(one for one in page if not self.is_near(one)),
        )

    def candidates(self, searched: Entry, as_of: int) -> list[Candidate]:
        """All candidates of an entry as of a position: by distance if there is one, then overlap, then age."""
        newest: dict[ImageId, Entry] = {}
        for entry in self.entries:
            if (
                entry.place < as_of <= entry.gone_after
                and entry.image_id != searched.image_id
                and not self._hidden(entry, as_of)
            ):
                newest[entry.image_id] = entry
        found = [
            Candidate(e.image_id, e.place, overlap, e.code, self._distance(searched, e))
            for e in newest.values()
            if (overlap := self.overlap_of(searched.code, e.code)) > 0
        ]
        return sorted(found, key=lambda c: (c.distance or 0, -c.overlap, c.place))

    def is_near(self, candidate: Candidate) -> bool:
        """Whether the model could accept a candidate at its distance."""
        return self.gate is None or candidate.distance is None or candidate.distance <= self.gate

    def _distance(self, searched: Entry, other: Entry) -> int | None:
        return None if self.distance_of is None else self.distance_of(searched.code, other.code)

    def _hidden(self, entry: Entry, as_of: int) -> bool:
        return self.log[entry.place].fate == "faulted" and as_of > entry.place + self.hide_delay


def _asks(record: Record) -> Deleting | Replaying | Joining | None:
    if record.fate == "nameless" or record.kind == "image":
        return None
    if record.kind == "member":
        score, matched = (0.75, ImageId("elsewhere")) if record.row % 2 else (None, None)
        return Joining(ImageId(record.head), MANIFEST, record.row, score, matched)
    if record.kind == "delete":
        return Deleting(record.upto, 3, "author", "reason", record.forget)
    request = None if record.request is None else RequestPosition(REQUESTS, record.request)
    return Replaying(record.force, record.dry_run, request)


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

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId]) -> Lookup:
        """Storage."""
        self.calls["look_up"] += 1
        self.before_look_up()
        return self.store.look_up(ids, verdicts_of)

    def score(self, pairs: Sequence[PairNeed]) -> Mapping[PairNeed, float]:
        """The scorer; fails on calls that a real one refuses or that no caller should make."""
        self.calls["score"] += 1
        assert pairs
        assert len(set(pairs)) == len(pairs), "asked twice in one call"
        assert not set(pairs) & set(self.scored), "asked again"
        assert all(pair.left and pair.right and pair.model_version in (MODEL, NEWER_MODEL) for pair in pairs)
        assert all(pair.left <= pair.right for pair in pairs)
        self.scored.extend(pairs)
        return {pair: self.world.score(pair.model_version, pair.left, pair.right) for pair in pairs}

    def more(self, needs: Sequence[MoreNeed]) -> Mapping[MoreNeed, More]:
        """The index."""
        self.calls["more"] += 1
        assert needs
        assert not set(needs) & set(self.asked_more), "asked again"
        assert all(need.as_of > self.store.position.offset for need in needs), "asked as of a released position"
        self.asked_more.extend(needs)
        return {need: self._page(need) for need in needs}

    def _page(self, need: MoreNeed) -> More:
        [entry] = [entry for entry in self.world.entries if entry.place == need.place]
        found = self.world.candidates(entry, need.as_of)
        end = need.after + self.world.k
        return More(tuple(found[need.after : end]), len(found) <= end)

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        """Storage."""
        self.calls["apply"] += 1
        self.before_apply()
        self.store.apply(decisions, offset, revision)
