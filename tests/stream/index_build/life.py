"""A job that follows an order with deletes and replays, and what it leaves: the index, and what storage holds.

Search runs ahead of storage. The scorer fails now and then; the image is then unscored, and hidden a while later.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from crc32c import crc32c

from core.dead_letters import BadRecord
from core.notifications import decode_joined, image_id_of
from core.protos.joined_pb2 import JoinedDelete, JoinedImage, JoinedMember, JoinedRecord, JoinedReplay
from core.types import ImageId, LogPosition, Lookup, Membership, Tombstone
from search.index.interface import Answer, TermIndex
from search.serving.request_parser import RequestParser
from storage.embeddings import EmbeddingsPage, PlacedEmbedding
from storage.records import StoreState
from stream.index_build.catch_up import _records
from tests.search.serving.search_setup import image
from tests.stream.index_build.order import TOPIC_ID, record, refused
from tests.support.events import some_as_members


def delete(image_id: str, version: int | None = None) -> bytes:
    return JoinedRecord(delete=JoinedDelete(image_id=image_id, image_version=version)).SerializeToString()


def replay(image_id: str, carried: JoinedImage | None = None, dry_run: bool = False) -> bytes:
    record = JoinedRecord(replay=JoinedReplay(image_id=image_id, image=carried, dry_run=dry_run, force=dry_run))
    return record.SerializeToString(deterministic=True)


def full_order(count: int, seed: int) -> list[bytes]:
    """Images with several versions, refused ones, deletes with and without a version, replays of all kinds, rows."""
    chosen = random.Random(seed)
    records = []
    for offset in range(count):
        image_id, version = f"i{chosen.randrange(count // 6)}", chosen.choice((1, 1, 1, 2, 3))
        vectors, near = chosen.randrange(8), chosen.randrange(20) / 200
        kind = chosen.random()
        if kind < 0.04:
            records.append(b"garbage %d" % offset)
        elif kind < 0.12:
            records.append(refused(image_id, version))
        elif kind < 0.20:
            records.append(delete(image_id, chosen.choice((None, None, 1, 2, 9))))
        elif kind < 0.45:
            carried = image(image_id, vectors, near, version) if chosen.random() < 0.8 else None
            records.append(replay(image_id, carried, dry_run=chosen.random() < 0.2))
        elif kind < 0.50 and records:
            records.append(chosen.choice(records))
        else:
            records.append(record(image_id, vectors, near, version))
    return some_as_members(records, seed)


@dataclass(frozen=True)
class Held:
    """What storage holds of an image."""

    version: int
    place: int
    image: JoinedImage
    unscored: bool


@dataclass
class Store:
    """Storage as an index build sees it; implements `Decided`."""

    applied: list[bytes] = field(default_factory=list)
    images: dict[str, Held] = field(default_factory=dict)
    tombstones: dict[str, Tombstone] = field(default_factory=dict)
    reports: list[tuple[int, int]] = field(default_factory=list)
    """Positions that made an image unscored, with its place."""
    hidden_places: set[int] = field(default_factory=set)

    def apply(self, payload: bytes, answer: Answer, fails: bool) -> int | None:
        """Decides on a record. Returns the place to hide if its image becomes unscored."""
        self.applied.append(payload)
        decoded = decode_joined(payload)
        if isinstance(decoded, BadRecord) or answer.superseded:
            return None
        if isinstance(decoded, JoinedDelete):
            self._delete(decoded, answer.offset)
            return None
        held = self.images.get(image_id_of(decoded))
        if isinstance(decoded, JoinedReplay):
            assert answer.deleted == (decoded.image_id in self.tombstones)
            if decoded.dry_run or answer.place < 0 or answer.deleted:
                return None
            carried, version = decoded.image, answer.version
            if answer.place < answer.offset:
                assert held is not None
                assert (held.version, held.place) == (version, answer.place)
                if held.unscored:  # its hide may be under way
                    return None
                carried = held.image
        else:
            carried = decoded.image if isinstance(decoded, JoinedMember) else decoded
            before, version = self.tombstones.get(carried.image_id), carried.image_version
            if answer.deleted or (before is not None and before.version >= version):
                return None
            if held is not None and held.version >= version:
                return None
            self.tombstones.pop(carried.image_id, None)
        place = answer.place if answer.place >= 0 else answer.offset
        unscored = fails or not answer.code
        self.images[image_id_of(decoded)] = Held(version, place, carried, unscored)
        if unscored:
            self.reports.append((answer.offset, place))
        return place if unscored else None

    def _delete(self, told: JoinedDelete, position: int) -> None:
        held, before = self.images.get(told.image_id), self.tombstones.get(told.image_id)
        last = held.version if held else before.version if before else None
        version = told.image_version if told.HasField("image_version") else last
        if version is None or version < (last or 0) or (before and before.version == version):
            return
        self.images.pop(told.image_id, None)
        self.tombstones[told.image_id] = Tombstone(ImageId(told.image_id), version, position, 1)

    @property
    def position(self) -> LogPosition:
        last = self.applied[-1] if self.applied else b""
        return LogPosition(TOPIC_ID if last else "", len(self.applied) - 1, crc32c(last) if last else 0)

    def unscored(self, through: int) -> list[int]:
        """See `Decided`."""
        return sorted({place for position, place in self.reports if position <= through} - self.hidden_places)

    def hidden(self, place: int) -> None:
        """See `Decided`."""
        self.hidden_places.add(place)

    def look_up(self, ids: Iterable[ImageId]) -> Lookup:
        """See `Decided`."""
        found = {one: self.images[one] for one in ids if one in self.images}
        memberships = {one: Membership(one, held.version, held.place, one) for one, held in found.items()}
        return Lookup(self.position, 0, memberships)

    def pages(self, size: int = 5) -> Iterator[EmbeddingsPage]:
        """See `StorageClient.embeddings`."""
        state = StoreState(self.position, images=len(self.images))
        yield EmbeddingsPage(state, (), tuple(self.tombstones.values()))
        rows = [
            PlacedEmbedding(
                held.place,
                ImageId(image_id),
                held.version,
                held.image.search_vector,
                held.image.score_vector,
                held.unscored,
            )
            for image_id, held in self.images.items()
        ]
        rows.sort(key=lambda row: row.place)
        for at in range(0, len(rows) or 1, size):
            yield EmbeddingsPage(state, tuple(rows[at : at + size]))


def live(index: TermIndex, order: list[bytes], parser: RequestParser, seed: int, until: int) -> Store:
    """Lets the job take the whole order into the index, and the first `until` records into storage.

    The records after those are searched once the others are decided and hidden: no build can know of answers that the
    job holds while it is under way.
    """
    chosen = random.Random(seed)
    store = Store()
    searched: list[Answer] = []
    to_hide: list[int] = []

    def search(end: int) -> None:
        payloads = list(enumerate(order))[len(searched) : min(end, len(searched) + chosen.randint(1, 12))]
        searched.extend(index.insert_and_search(TOPIC_ID, _records(payloads, parser)))

    while len(store.applied) < until:
        search(until)
        for _ in range(chosen.randint(0, 12)):
            at = len(store.applied)
            if at < len(searched):
                place = store.apply(order[at], searched[at], fails=chosen.random() < 0.2)
                to_hide += [] if place is None else [place]
        if chosen.random() < 0.5 or len(store.applied) == until:
            for place in to_hide:
                index.hide(place)
            to_hide.clear()
    while len(searched) < len(order):
        search(len(order))
    return store


def as_seen(index: TermIndex, ids: Iterable[str]) -> list[object]:
    """What an index holds of images. The code of a hidden one may be gone, and a forgotten one may be erased."""
    return [
        None if one is None else replace(one, code=b"" if one.hidden else one.code, erased=False)
        for one in index.get([ImageId(each) for each in ids])
    ]
