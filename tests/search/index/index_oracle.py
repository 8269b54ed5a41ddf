"""The term index by definition: everything is worked out anew, from the history, by brute force."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from search.index.folder import Identity
from search.index.interface import NO_PLACE, Answer, Found, Insert, Record, Remove, Skip
from search.index.settings import IndexSettings
from search.types import Candidate, ImageId

LOG = "log-1"


def index_settings(
    groups: int = 4,
    bits_per_group: int = 2,
    min_overlap: int = 1,
    candidates: int = 3,
    code_bytes: int = 2,
    sync: bool = False,
    terms: str = "terms-a",
) -> IndexSettings:
    """Small settings; nothing is synced, as only machines that crash need it."""
    identity = Identity(terms, "code-a", {"groups": groups})
    return IndexSettings(groups, bits_per_group, min_overlap, candidates, code_bytes, identity, sync)


def insert(offset: int, image_id: str, version: int = 1, terms: Sequence[int] = (0, 0, 0, 0)) -> Insert:
    """A record whose code and checksum follow from what it holds."""
    code = bytes([zlib.crc32(f"{image_id} {version}".encode()) % 251, int(sum(terms)) % 251])
    return Insert(offset, offset + 1, ImageId(image_id), version, np.array(terms, np.uint32), code)


@dataclass(frozen=True)
class Plain:
    """An answer with plain values, to compare."""

    offset: int
    place: int
    code: bytes
    superseded: bool
    candidates: tuple[Candidate, ...]
    exhausted: bool


def plain(answer: Answer) -> Plain:
    found = answer.found
    return Plain(answer.offset, answer.place, answer.code, answer.superseded, found.candidates(), found.exhausted)


def code_of(record: Record) -> bytes:
    return record.code if isinstance(record, Insert) else b""


def plain_found(found: Found) -> tuple[tuple[Candidate, ...], bool]:
    return found.candidates(), found.exhausted


@dataclass
class Oracle:
    """What was applied, and what follows from it."""

    settings: IndexSettings
    log: list[Record] = field(default_factory=list)
    hides: list[tuple[int, int]] = field(default_factory=list)

    @property
    def position(self) -> int:
        return len(self.log) - 1

    def apply(self, records: Sequence[Record]) -> None:
        self.log += [record for record in records if record.offset > self.position]

    def hide(self, place: int) -> None:
        self.hides.append((place, self.position))

    def placed(self) -> list[Record]:
        """The records that placed a version."""
        placed: list[Record] = []
        latest: dict[ImageId, int] = {}
        for record in self.log:
            if record.image_id and record.version > latest.get(record.image_id, -1):
                latest[record.image_id] = record.version
                placed.append(record)
        return placed

    def answer(self, record: Record) -> Plain:
        """What the index must say to a record that was applied, now or at any later time."""
        before = [p for p in self.placed() if p.image_id == record.image_id and p.offset <= record.offset]
        own = next((p for p in before if p.version == record.version), None)
        superseded = any(p.version > record.version for p in before)
        if isinstance(record, Skip):
            return Plain(record.offset, NO_PLACE, b"", False, (), True)
        carries = isinstance(record, Insert)
        if superseded:
            place, code = (record.offset, getattr(record, "code", b"")) if own is None else (own.offset, code_of(own))
            return Plain(record.offset, place, code if carries else b"", True, (), True)
        assert own is not None
        if isinstance(own, Skip):
            return Plain(record.offset, NO_PLACE, b"", False, (), True)
        if not carries or isinstance(own, Remove):
            return Plain(record.offset, own.offset, b"", False, (), True)
        candidates, exhausted = self.more(own.offset, 0)
        return Plain(record.offset, own.offset, code_of(own), False, candidates, exhausted)

    def more(self, place: int, after: int) -> tuple[tuple[Candidate, ...], bool]:
        """The k candidates behind the first `after` ones, as of a place."""
        own = next(p for p in self.placed() if p.offset == place)
        assert isinstance(own, Insert)
        everyone = []
        for other in self.placed():
            if not isinstance(other, Insert) or other.image_id == own.image_id or not self.visible(other, place):
                continue
            overlap = int((other.terms == own.terms).sum())
            if overlap >= self.settings.min_overlap:
                everyone.append(Candidate(other.image_id, other.offset, overlap, other.code))
        everyone.sort(key=lambda candidate: (-candidate.overlap, candidate.place))
        last = after + self.settings.candidates
        return tuple(everyone[after:last]), len(everyone) <= last

    def visible(self, other: Record, place: int) -> bool:
        """Whether a search as of a place sees a placed record."""
        newer = [p.offset for p in self.placed() if p.image_id == other.image_id and p.version > other.version]
        hidden = newer + [hidden_from for hidden_place, hidden_from in self.hides if hidden_place == other.offset]
        return other.offset < place and all(place <= hidden_from for hidden_from in hidden)

    def images(self) -> int:
        """How many images a search from the next place can find."""
        beyond = self.position + 1
        return sum(isinstance(p, Insert) and self.visible(p, beyond) for p in self.placed())
