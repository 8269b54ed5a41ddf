"""The term index by definition: everything is worked out anew, from the history, by brute force."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.types import Candidate, ImageId
from search.index.folder import Identity
from search.index.interface import (
    NO_PLACE,
    Answer,
    Insert,
    Record,
    Remove,
    Replay,
    SearchResult,
    Skip,
    Stored,
    TermQuery,
)
from search.index.settings import IndexSettings
from search.ranking import Order, Ranking, page_of

LOG = "log-1"


def index_settings(
    groups: int = 4,
    bits_per_group: int = 2,
    min_overlap: int = 1,
    candidates: int = 3,
    code_bytes: int = 2,
    sync: bool = False,
    seal_entries: int = 8192,
    merge_fan: int = 4,
    max_postings: int = 10**8,
    terms: str = "terms-a",
    ranking: Ranking | None = None,
) -> IndexSettings:
    """Small settings; nothing is synced, as only machines that crash need it. By overlap, unless a ranking is given."""
    identity = Identity(terms, "code-a", {"groups": groups})
    ranking = ranking or Ranking(candidates, order=Order.OVERLAP, min_overlap=min_overlap)
    return IndexSettings(
        groups, bits_per_group, code_bytes, identity, ranking, sync,
        seal_entries=seal_entries, merge_fan=merge_fan, max_postings=max_postings,
    )  # fmt: skip


def insert(
    offset: int, image_id: str, version: int = 1, terms: Sequence[int] = (0, 0, 0, 0), *, searched: bool = True
) -> Insert:
    """A record whose code and checksum follow from what it holds."""
    code = bytes([zlib.crc32(f"{image_id} {version}".encode()) % 251, int(sum(terms)) % 251])
    return Insert(offset, offset + 1, ImageId(image_id), version, np.array(terms, np.uint32), code, searched)


def replay(offset: int, image_id: str, version: int | None = None, terms: Sequence[int] = (0, 0, 0, 0)) -> Replay:
    """A replay, which carries the image if a version is given."""
    image = None if version is None else insert(offset, image_id, version, terms)
    return Replay(offset, offset + 1, ImageId(image_id), image)


def delete(offset: int, image_id: str, version: int | None = None, *, forget: bool = False) -> Remove:
    return Remove(offset, offset + 1, ImageId(image_id), version, forget)


@dataclass(frozen=True)
class Plain:
    """An answer with plain values, to compare."""

    offset: int
    place: int
    code: bytes = b""
    superseded: bool = False
    candidates: tuple[Candidate, ...] = ()
    distances: tuple[int, ...] | None = None
    exhausted: bool = True
    version: int = 0
    deleted: bool = False


def plain(answer: Answer) -> Plain:
    return Plain(
        answer.offset, answer.place, answer.code, answer.superseded, *plain_found(answer.result),
        answer.version, answer.deleted,
    )  # fmt: skip


def code_of(record: Record) -> bytes:
    return record.code if isinstance(record, Insert) else b""


Page = tuple[tuple[Candidate, ...], tuple[int, ...] | None, bool]
"""Candidates, their distances if these give the order, and whether none follow."""


def plain_found(found: SearchResult) -> Page:
    distances = None if found.distances is None else tuple(found.distances.tolist())
    return found.candidates(), distances, found.exhausted


@dataclass(frozen=True)
class Deleted(Remove):
    """A delete that took effect."""

    version: int


Placed = Insert | Skip | Deleted


def _placing(record: Record, older: Placed | None, hidden: bool) -> Placed | None:
    """What a record places after `older`, which a search as of the record does not find if it is hidden."""
    last = -1 if older is None else older.version
    gone = isinstance(older, Deleted)
    match record:
        case Remove():
            version = last if record.version is None else record.version
            if version < max(last, 0) or (version == last and gone and not record.forget):
                return None
            return Deleted(record.offset, record.checksum, record.image_id, version, record.forget)
        case Replay():
            image = record.image
            found = isinstance(older, Insert) and not hidden
            if image is None or found or gone or (older is not None and image.version != last):
                return None
            return image
        case _:
            return record if record.version > last else None


@dataclass
class Oracle:
    """What was applied, and what follows from it."""

    settings: IndexSettings
    log: list[Record] = field(default_factory=list)
    hides: list[tuple[int, int]] = field(default_factory=list)
    _known: tuple[tuple[int, int], tuple[list[Record], dict[int, int]]] | None = None

    @property
    def position(self) -> int:
        return len(self.log) - 1

    def apply(self, records: Sequence[Record]) -> None:
        self.log += [record for record in records if record.offset > self.position]

    def hide(self, place: int) -> None:
        self.hides.append((place, self.position))

    def placed(self) -> list[Placed]:
        """What placed a version: a replay as the image that it carries, a delete with the version that it deletes."""
        return self._history()[0]

    def _history(self) -> tuple[list[Placed], dict[int, int]]:
        """The records that placed a version, and for each hidden place the last place that sees it."""
        state = (len(self.log), len(self.hides))
        if self._known is None or self._known[0] != state:
            self._known = (state, self._work_out())
        return self._known[1]

    def _work_out(self) -> tuple[list[Placed], dict[int, int]]:
        placed: list[Placed] = []
        latest: dict[ImageId, Placed] = {}
        seen_by: dict[int, int] = {}
        for place, hidden_from in self.hides:
            seen_by[place] = min(hidden_from, seen_by.get(place, hidden_from))
        for record in self.log:
            older = latest.get(record.image_id)
            hidden = older is not None and seen_by.get(older.offset, record.offset) < record.offset
            new = _placing(record, older, hidden) if record.image_id else None
            if new is not None:
                latest[record.image_id] = new
                placed.append(new)
                if older is not None:
                    seen_by[older.offset] = min(record.offset, seen_by.get(older.offset, record.offset))
        return placed, seen_by

    def answer(self, record: Record) -> Plain:
        """What the index must say to a record that was applied, now or at any later time."""
        before = [p for p in self.placed() if p.image_id == record.image_id and p.offset <= record.offset]
        match record:
            case Skip():
                return Plain(record.offset, NO_PLACE)
            case Remove():
                return self._answer_to_delete(record, before)
            case Replay():
                return self._answer_to_replay(record, before)
            case _:
                return self._answer_to_insert(record, before)

    def _answer_to_insert(self, record: Insert, before: list[Placed]) -> Plain:
        own = next((p for p in reversed(before) if p.version == record.version), None)
        if any(p.version > record.version for p in before):
            place, code = (record.offset, record.code) if own is None else (own.offset, code_of(own))
            return Plain(record.offset, place, code, superseded=True)
        assert own is not None
        if isinstance(own, Skip):
            return Plain(record.offset, NO_PLACE)
        if isinstance(own, Remove):
            return Plain(record.offset, own.offset, deleted=True)
        found: Page = self.more(own.offset, 0) if record.searched else ((), None, True)
        return Plain(record.offset, own.offset, own.code, False, *found)

    @staticmethod
    def _answer_to_delete(record: Remove, before: list[Placed]) -> Plain:
        older = [p for p in before if p.offset < record.offset]
        version = older[-1].version if older else 0
        place = before[-1].offset if before and isinstance(before[-1], Remove) else NO_PLACE
        superseded = record.version is not None and record.version < version
        return Plain(record.offset, place, b"", superseded, version=version, deleted=place == record.offset)

    def _answer_to_replay(self, record: Replay, before: list[Placed]) -> Plain:
        own = before[-1] if before else None
        if own is None:
            return Plain(record.offset, NO_PLACE)
        if isinstance(own, Remove):
            return Plain(record.offset, own.offset, version=own.version, deleted=True)
        if isinstance(own, Skip) or not (own.offset == record.offset or self.visible(own, record.offset)):
            return Plain(record.offset, NO_PLACE, version=own.version)
        return Plain(record.offset, own.offset, own.code, False, *self.more(own.offset, 0, record.offset), own.version)

    def more(self, place: int, after: int, as_of: int | None = None) -> Page:
        """The page of candidates behind the first `after` ones, as of a place or of a replay."""
        own = next(p for p in self.placed() if p.offset == place)
        assert isinstance(own, Insert)
        at = place if as_of is None else as_of
        everyone = self.ranked(own.terms, at, self.settings.ranking.min_overlap, own.image_id)
        return self.page(everyone, own.code, after, page_of(self.settings.ranking, after))

    def page(self, everyone: list[Candidate], code: bytes, after: int, k: int) -> Page:
        """Some of the candidates that are in order of overlap; in order of distance if the search has a code."""
        last, ranking = after + k, self.settings.ranking
        if not code or ranking.order is Order.OVERLAP:
            return tuple(everyone[after:last]), None, len(everyone) <= last
        size = self.settings.distance_bits // 8
        near = sorted(
            (sum((a ^ b).bit_count() for a, b in zip(code[:size], each.score_code[:size], strict=True)), rank, each)
            for rank, each in enumerate(everyone[: ranking.depth])
        )
        page = near[after:last]
        return tuple(each for _, _, each in page), tuple(distance for distance, _, _ in page), len(near) <= last

    def ranked(self, terms: NDArray[np.uint32], as_of: int, least: int, without: str) -> list[Candidate]:
        """Everything that shares enough terms; of each list only the oldest images count, when it is too long."""
        most = self.settings.max_postings // self.settings.groups
        used = np.zeros(self.settings.groups, np.int64)
        everyone = []
        for other in self.placed():
            if isinstance(other, Insert) and self.visible(other, as_of):
                shared = other.terms == terms
                used += shared
                overlap = int((shared & (used <= most)).sum())
                if overlap >= least and other.image_id != without:
                    everyone.append(Candidate(other.image_id, other.offset, overlap, other.code))
        return sorted(everyone, key=lambda candidate: (-candidate.overlap, candidate.place))

    def free(self, query: TermQuery) -> Page:
        """What a search by terms finds."""
        as_of = self.position + 1 if query.as_of is None else query.as_of
        least = query.min_overlap or self.settings.ranking.min_overlap
        everyone = self.ranked(query.terms, as_of, least, query.without)
        return self.page(everyone, query.code, query.after, query.k)

    def stored(self, image_id: ImageId) -> Stored | None:
        """The version of an image that was placed last."""
        mine = [p for p in self.placed() if p.image_id == image_id]
        if not mine:
            return None
        last = mine[-1]
        hidden = not isinstance(last, Insert) or not self.visible(last, self.position + 1)
        return Stored(image_id, last.version, last.offset, code_of(last), hidden, isinstance(last, Remove))

    def listed(self) -> list[Placed]:
        """What a search from the next place can find, and the deletes that nothing was placed after."""
        last = {p.image_id: p for p in self.placed()}.values()
        beyond = self.position + 1
        held = [p for p in last if isinstance(p, Deleted) or (isinstance(p, Insert) and self.visible(p, beyond))]
        return sorted(held, key=lambda p: p.offset)

    def visible(self, other: Placed, place: int) -> bool:
        """Whether a search as of a place sees a placed record."""
        last = self._history()[1].get(other.offset, place)
        return other.offset < place <= last

    def images(self) -> int:
        """How many images a search from the next place can find."""
        beyond = self.position + 1
        return sum(isinstance(p, Insert) and self.visible(p, beyond) for p in self.placed())
