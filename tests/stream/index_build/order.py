"""An order of records with everything in it, the index that the job would have made of it, and its embeddings."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crc32c import crc32c

from core.dead_letters import BadRecord
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedRecord
from core.types import Candidate, ImageId, LogPosition
from neardup.events_pb2 import FLOAT16
from search.index.interface import TermIndex
from search.serving.request_parser import RequestParser
from search.serving.server import SearchServerSettings, open_index
from storage.embeddings import EmbeddingsPage, PlacedEmbedding
from storage.records import StoreState
from stream.index_build.catch_up import _records
from stream.start_plan import Log, base_of
from tests.search.serving.search_setup import image, server_settings

TOPIC_ID = "topic-id-1"


@dataclass
class FakeJoined:
    """An `OrderedLog` in memory; `grows` is appended to it when it is read for the first time."""

    records: list[bytes]
    topic_id: str = TOPIC_ID
    first: int = 0
    grows: list[bytes] = field(default_factory=list)
    base: int = 0

    def follow(self, store: LogPosition) -> None:
        self.base = base_of(self.topic_id, [store])

    def log(self) -> Log:
        return Log.at("joined", self.topic_id, (self.first, len(self.records)), self.base)

    def checksum(self, position: int) -> int | None:
        offset = position - self.base
        return crc32c(self.records[offset]) if self.first <= offset < len(self.records) else None

    def read(self, start: int, end: int) -> Iterator[Sequence[tuple[int, bytes]]]:
        assert start - self.base >= self.first
        for at in range(start, end, 7):
            yield [(position, self.records[position - self.base]) for position in range(at, min(at + 7, end))]
        self.records += self.grows
        self.grows = []


def record(image_id: str, seed: int, near: float = 0.0, version: int = 1) -> bytes:
    joined = JoinedRecord(image=image(image_id, seed, near, version))
    return joined.SerializeToString(deterministic=True)


def refused(image_id: str, version: int = 1) -> bytes:
    """A record that can be read, and whose vector the index does not take."""
    joined = JoinedRecord(image=image(image_id, 1, version=version))
    joined.image.search_type, joined.image.search_vector = FLOAT16, b"\x00\x3c" * 5
    return joined.SerializeToString(deterministic=True)


def some_order(count: int, seed: int) -> list[bytes]:
    """Clusters of copies, repeated records, new and old versions, garbage, refused vectors."""
    chosen = random.Random(seed)
    records = []
    for offset in range(count):
        image_id = f"i{chosen.randrange(count * 2 // 3)}"
        version = chosen.choice((1, 1, 1, 1, 2, 3))
        kind = chosen.random()
        if kind < 0.03:
            records.append(b"garbage %d" % offset)
        elif kind < 0.06:
            records.append(refused(image_id, version))
        elif kind < 0.12 and records:
            records.append(chosen.choice(records))
        else:
            records.append(record(image_id, chosen.randrange(12), chosen.randrange(20) / 200, version))
    return records


def settings_in(folder: Path, **terms: object) -> SearchServerSettings:
    return server_settings(folder / "index", **terms)


def parser_of(settings: SearchServerSettings) -> RequestParser:
    return RequestParser(settings.terms.build(), settings.code.build())


@dataclass(frozen=True)
class Answered:
    """An answer of the index that can be compared."""

    place: int
    code: bytes
    superseded: bool
    candidates: tuple[Candidate, ...]


def as_the_job_does(index: TermIndex, records: Sequence[bytes], parser: RequestParser) -> list[Answered]:
    """Applies records from the index's position on."""
    start = index.position.offset + 1
    entries = _records([(start + row, payload) for row, payload in enumerate(records)], parser)
    answers = index.insert_and_search(TOPIC_ID, entries)
    return [Answered(one.place, one.code, one.superseded, one.result.candidates()) for one in answers]


def live_index(settings: SearchServerSettings, records: Sequence[bytes]) -> TermIndex:
    """What the job has made of the order."""
    index = open_index(settings, settings.terms.build(), settings.code.build()).index
    as_the_job_does(index, records, parser_of(settings))
    return index


def stored(records: Sequence[bytes]) -> list[PlacedEmbedding]:
    """What the store has of the order: the latest version of each image, by place."""
    latest: dict[str, PlacedEmbedding] = {}
    for offset, payload in enumerate(records):
        decoded = decode_joined(payload)
        if isinstance(decoded, BadRecord):
            continue
        before = latest.get(decoded.image_id)
        if before is None or before.version < decoded.image_version:
            latest[decoded.image_id] = PlacedEmbedding(
                offset,
                ImageId(decoded.image_id),
                decoded.image_version,
                decoded.search_vector,
                decoded.score_vector,
                unscored=len(decoded.search_vector) == 10,
            )
    return sorted(latest.values(), key=lambda row: row.place)


def pages(records: Sequence[bytes], size: int = 50) -> Iterator[EmbeddingsPage]:
    """The embeddings of a store that has applied these records."""
    rows = stored(records)
    checksum = crc32c(records[-1]) if records else 0
    position = LogPosition(TOPIC_ID if records else "", len(records) - 1, checksum)
    state = StoreState(position, images=len(rows))
    for at in range(0, len(rows) or 1, size):
        yield EmbeddingsPage(state, tuple(rows[at : at + size]))
