"""Views of a RocksDB store: records read through the codec, as of now or as of a snapshot."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from core.errors import BadInputError, UnavailableError
from core.pseudonyms import Pseudonyms
from core.types import Cluster, DeadLetterRecord, ImageId, Lookup, Membership, Tombstone
from storage import codec, state_codec
from storage.errors import CorruptedError
from storage.interfaces import StoreView, last_verdicts
from storage.records import (
    ClusterRecord,
    DeltaProgress,
    Edge,
    EmbeddingRecord,
    EndedCluster,
    EraseCursor,
    Erasure,
    FirstLoad,
    Heads,
    HistoryEntry,
    ImageRecord,
    PublishedMark,
    StoreEpoch,
    StoreState,
)
from storage.rocks.database import Database, Moment
from storage.rocks.options import META
from storage.rocks.overlay import Get, Overlay, Rows
from storage.rocks.translate import NOT_FOUND, ours, translated

__all__ = [
    "DELTA",
    "DROPPED",
    "EPOCH",
    "ERASING",
    "FIRST_LOAD",
    "FORGET_KEY",
    "MARK",
    "PUBLISHED",
    "STATE",
    "UNSCORED",
    "Lease",
    "LiveReader",
    "PointReads",
    "SnapshotView",
]

STATE = b"state"
"""The key of the state, in the family `default`."""

PUBLISHED = b"published"
"""The key of the number of the last published history entry, in the family `default`."""


MARK = b"published-mark"
"""The key of where the message of that entry lies, in the family `default`."""

_LAST = 2**63
"""Above every second and every history number."""

UNSCORED = b"unscored-"
"""The keys of the unscored images that swept history entries tell of, in the family `default`, before their offsets."""

FORGET_KEY = b"forget-key"
"""The key of the key of forgotten images, in the family `default`."""

ERASING = b"erasing"
"""The key of how far images are erased, in the family `default`."""

DROPPED = b"dropped"
"""The key of a history number, in the family `default`: since the last scrub, plans of bulk moves were removed, and one
may have written history ahead from there on."""

FIRST_LOAD = b"first-load"
"""The key of the manifest that the store began with, in the family `default`."""

DELTA = b"delta-"
"""The keys of the manifests whose rows go through the order, in the family `default`, before their ids."""

EPOCH = b"epoch"
"""The key of the store's epoch, in the family `default`."""


class PointReads(ABC):
    """Reads of single records, and of the records that a number of ids name. Subclasses get the bytes."""

    @abstractmethod
    def _get(self, family: str, key: bytes) -> bytes | None: ...

    def _get_many(self, family: str, keys: list[bytes]) -> list[bytes | None]:
        """The values of keys of one family, in their order."""
        return [self._get(family, key) for key in keys]

    def state(self) -> StoreState:
        """See `StoreView.state`."""
        value = self._get(META, STATE)
        if value is None:
            raise CorruptedError("the state of the store is gone")
        return state_codec.decode_state(value)

    def published(self) -> int:
        """See `StoreView.published`."""
        value = self._get(META, PUBLISHED)
        return 0 if value is None else codec.decode_number("what is published", value)

    def published_mark(self) -> PublishedMark | None:
        """See `StoreView.published_mark`."""
        value = self._get(META, MARK)
        mark = None if value is None else state_codec.decode_mark(value)
        # An earlier release moves the number on, and knows no mark.
        return mark if mark is not None and mark.number == self.published() else None

    def epoch(self) -> StoreEpoch | None:
        """See `StoreView.epoch`."""
        value = self._get(META, EPOCH)
        return None if value is None else state_codec.decode_epoch(value)

    def first_load(self) -> FirstLoad | None:
        """See `StoreView.first_load`."""
        value = self._get(META, FIRST_LOAD)
        return None if value is None else state_codec.decode_first_load(value)

    def delta(self, manifest_id: str) -> DeltaProgress | None:
        """See `StoreView.delta`."""
        value = self._get(META, DELTA + manifest_id.encode())
        return None if value is None else state_codec.decode_delta_progress(value)

    def image(self, image_id: ImageId) -> ImageRecord | None:
        """See `StoreView.image`."""
        key = _key_or_none(image_id)
        value = None if key is None else self._get("images", key)
        return None if key is None or value is None else codec.decode_image(key, value)

    def cluster(self, head: ImageId) -> ClusterRecord | None:
        """See `StoreView.cluster`."""
        key = _key_or_none(head)
        value = None if key is None else self._get("clusters", key)
        return None if key is None or value is None else codec.decode_cluster(key, value)

    def tombstone(self, image_id: ImageId) -> Tombstone | None:
        """See `StoreView.tombstone`."""
        key = _key_or_none(image_id)
        return None if key is None else self._buried(image_id, key)

    def pseudonyms(self) -> Pseudonyms | None:
        """See `StoreView.pseudonyms`."""
        value = self._get(META, FORGET_KEY)
        return None if value is None else state_codec.decode_pseudonyms(value)

    def erasure(self, pseudonym: ImageId) -> Erasure | None:
        """See `StoreView.erasure`."""
        key = _key_or_none(pseudonym)
        value = None if key is None else self._get("erasures", key)
        return None if key is None or value is None else codec.decode_erasure(key, value)

    def erase_cursor(self) -> EraseCursor | None:
        """See `StoreView.erase_cursor`."""
        value = self._get(META, ERASING)
        return None if value is None else state_codec.decode_erase_cursor(value)

    def _buried(self, image_id: ImageId, key: bytes) -> Tombstone | None:
        """The tombstone of an image, or of its pseudonym."""
        value = self._get("tombstones", key)
        if value is None and (names := self.pseudonyms()) is not None:
            key = names.of(image_id).encode()
            value = self._get("tombstones", key)
        return None if value is None else codec.decode_tombstone(key, value)

    def look_up(self, ids: Iterable[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """See `StoreView.look_up`. It reads thousands of records, so only what it needs of each is decoded."""
        state = self.state()
        memberships: dict[ImageId, Membership] = {}
        clusters: dict[ImageId, Cluster] = {}
        tombstones: dict[ImageId, Tombstone] = {}
        heads: dict[ImageId, None] = {}
        for image_id, key, value in self._images(dict.fromkeys(ids)):
            if value is not None:
                memberships[image_id] = membership = codec.decode_membership(image_id, value)
                heads[membership.head] = None
            elif state.tombstones and (tombstone := self._buried(image_id, key)) is not None:
                tombstones[image_id] = replace(tombstone, image_id=image_id)
                heads[image_id] = None
        for head, found in zip(heads, self._get_many("clusters", [head.encode() for head in heads]), strict=True):
            if found is not None:
                clusters[head] = codec.decode_cluster_front(head, found)
        verdicts = last_verdicts(map(self.image, verdicts_of))
        return Lookup(state.position, state.revision, memberships, clusters, tombstones, verdicts, state.requests)

    def heads(self, ids: Iterable[ImageId]) -> Heads:
        """See `StoreView.heads`."""
        state = self.state()
        heads: dict[ImageId, ImageId] = {}
        tombstones: dict[ImageId, Tombstone] = {}
        for image_id, key, value in self._images(ids):
            if value is not None:
                heads[image_id] = codec.decode_head(image_id, value)
            elif state.tombstones and (tombstone := self._buried(image_id, key)) is not None:
                tombstones[image_id] = replace(tombstone, image_id=image_id)
        return Heads(state.position, state.revision, heads, tombstones)

    def _images(self, ids: Iterable[ImageId]) -> Iterator[tuple[ImageId, bytes, bytes | None]]:
        """Each id with its key and value in the family `images`."""
        asked = list(ids)
        keys = [image_id.encode(errors="surrogatepass") for image_id in asked]
        return zip(asked, keys, self._get_many("images", keys), strict=True)

    def embedding(self, place: int) -> EmbeddingRecord | None:
        """See `StoreView.embedding`."""
        key = codec.place_key(place)
        value = self._get("embeddings", key)
        return None if value is None else codec.decode_embedding(key, value)


def _key_or_none(image_id: ImageId) -> bytes | None:
    """The key of an id; None for what cannot be an id, which is then unknown."""
    try:
        return codec.image_key(image_id)
    except BadInputError:
        return None


class LiveReader(PointReads):
    """Reads the current content, through the bulk move that is under way. Two reads are of one moment only while nobody
    writes.

    Where many ids are read, errors are the library's: see `storage.rocks.translate`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._overlay = Overlay(self._plain) if database.has_bulk else None

    def _plain(self, family: str) -> Get:
        return partial(self._database.get, family)

    def _get(self, family: str, key: bytes) -> bytes | None:
        return self._database.get(family, key) if self._overlay is None else self._overlay.getter(family)(key)

    def _get_many(self, family: str, keys: list[bytes]) -> list[bytes | None]:
        if self._overlay is None:
            return self._database.get_many(family, keys)
        return list(map(self._overlay.getter(family), keys))


class Lease:
    """The right to read a moment, which the store takes back before it closes the database.

    Each read holds the lease for its own time only. So a reader that does not read on holds up nobody: `revoke` waits
    for the read in progress, and then the moment is gone.
    """

    __slots__ = ("_lock", "_moment")

    def __init__(self, moment: Moment) -> None:
        self._lock = threading.Lock()
        self._moment: Moment | None = moment

    def __enter__(self) -> Moment:
        """Holds the moment for one read. Nothing of it may be kept after the block.

        Raises:
            UnavailableError: The lease is revoked.
        """
        self._lock.acquire()
        if self._moment is None:
            self._lock.release()
            raise UnavailableError("the store was closed during a long read: read again")
        return self._moment

    def __exit__(self, *unused: object) -> None:
        self._lock.release()

    def revoke(self) -> None:
        """Ends the lease and releases the moment; may be repeated."""
        with self._lock:
            self._moment = None


class SnapshotView(PointReads, StoreView):
    """The whole store as of one moment."""

    def __init__(self, folder: Path, lease: Lease, has_bulk: bool) -> None:
        self._folder = folder
        self._lease = lease
        self._overlay = Overlay(lambda family: partial(self._read, family)) if has_bulk else None
        self._last = self.state().history_number if has_bulk else _LAST
        """Of the history. What a plan has written ahead comes after it."""
        self._owners: dict[str, object] = {}
        """The scan that moved the cursor of a family last."""

    def images(self) -> Iterator[ImageRecord]:
        """See `StoreView.images`."""
        return (codec.decode_image(key, value) for key, value in self._scan("images"))

    def images_from(self, after: ImageId) -> Iterator[ImageRecord]:
        """See `StoreView.images_from`."""
        scan = self._scan("images", after.encode() + b"\0" if after else b"")
        return (codec.decode_image(key, value) for key, value in scan)

    def erasures(self) -> Iterator[Erasure]:
        """See `StoreView.erasures`."""
        return (codec.decode_erasure(key, value) for key, value in self._scan("erasures"))

    def clusters(self) -> Iterator[ClusterRecord]:
        """See `StoreView.clusters`."""
        return (codec.decode_cluster(key, value) for key, value in self._scan("clusters"))

    def tombstones(self) -> Iterator[Tombstone]:
        """See `StoreView.tombstones`."""
        return (codec.decode_tombstone(key, value) for key, value in self._scan("tombstones"))

    def edges(self) -> Iterator[Edge]:
        """See `StoreView.edges`."""
        return (codec.decode_edge(key, value) for key, value in self._scan("edges"))

    def edges_of(self, head: ImageId, after: int) -> Iterator[Edge]:
        """See `StoreView.edges_of`."""
        if not self._has_edges(head):
            return iter(())
        scan = self._scan("edges", codec.edge_key(head, after + 1), prefix=codec.edge_prefix(head))
        return (codec.decode_edge(key, value) for key, value in scan)

    def edges_back(self, head: ImageId, before: int) -> Iterator[Edge]:
        """See `StoreView.edges_back`."""
        if not self._has_edges(head):
            return iter(())
        scan = self._scan("edges", codec.edge_key(head, before), codec.edge_prefix(head), backwards=True)
        return (codec.decode_edge(key, value) for key, value in scan)

    def _has_edges(self, head: ImageId) -> bool:
        """Whether it is worth to look: a bulk move may have emptied a cluster whose million edges are still there."""
        return _key_or_none(head) is not None and (self._overlay is None or self.cluster(head) is not None)

    def is_moving(self, image_id: ImageId) -> bool:
        """See `StoreView.is_moving`."""
        key = _key_or_none(image_id)
        return self._overlay is not None and key is not None and self._overlay.is_moving(key)

    def embeddings(self) -> Iterator[EmbeddingRecord]:
        """See `StoreView.embeddings`."""
        return (codec.decode_embedding(key, value) for key, value in self._scan("embeddings"))

    def history_from(self, after: int) -> Iterator[HistoryEntry]:
        """See `StoreView.history_from`."""
        end = codec.encode_number(self._last)
        scan = takewhile(lambda row: row[0] <= end, self._scan("history", codec.encode_number(after + 1)))
        return (codec.decode_history(key, value) for key, value in scan)

    def history_numbers_of(self, image_id: ImageId, after: int) -> Iterator[int]:
        """See `StoreView.history_numbers_of`."""
        if _key_or_none(image_id) is None:
            return iter(())
        # Its keys are made as those of edges: a text, then a number.
        prefix = codec.edge_prefix(image_id)
        scan = self._scan("history_of", codec.edge_key(image_id, after + 1), prefix)
        numbers = (codec.decode_number("the history of an image", key[len(prefix) :]) for key, _ in scan)
        return takewhile(lambda number: number <= self._last, numbers)

    def ended_clusters(self, head: ImageId, after: int) -> Iterator[EndedCluster]:
        """See `StoreView.ended_clusters`."""
        if _key_or_none(head) is None:
            return iter(())
        scan = self._scan("ended", codec.edge_key(head, after + 1), codec.edge_prefix(head))
        return (codec.decode_ended(key, value) for key, value in scan)

    def operations(self, after: int) -> Iterator[bytes]:
        """The bytes of the bulk moves with numbers above `after`, in order."""
        return (value for _, value in self._scan("operations", codec.encode_number(after + 1)))

    def ended(self) -> Iterator[tuple[ImageId, EndedCluster]]:
        """See `StoreView.ended`."""
        found = (codec.decode_ended(key, value) for key, value in self._scan("ended"))
        return ((each.cluster.head, each) for each in found)

    def moment(self, second: int) -> int | None:
        """See `StoreView.moment`."""
        row = next(self._scan("moments", codec.encode_number(min(second, _LAST) + 1), backwards=True), None)
        return None if row is None else codec.decode_number("a moment", row[1])

    def first_moment(self) -> int | None:
        """See `StoreView.first_moment`."""
        row = next(self._scan("moments", b""), None)
        return None if row is None else codec.decode_number("a moment", row[1])

    def seconds_from(self, second: int) -> Iterator[tuple[int, int]]:
        """See `StoreView.seconds_from`."""
        scan = self._scan("moments", codec.encode_number(second))
        return ((codec.decode_number("a moment", key), codec.decode_number("a moment", value)) for key, value in scan)

    def deltas(self) -> Sequence[DeltaProgress]:
        """See `StoreView.deltas`."""
        found = (state_codec.decode_delta_progress(value) for _, value in self._scan(META, DELTA, DELTA))
        return tuple(sorted(found, key=lambda each: (each.started_ms, each.request.manifest_id)))

    def swept_unscored(self, after: int) -> Iterator[tuple[int, int]]:
        """See `StoreView.swept_unscored`."""
        what = "a swept history entry"
        scan = self._scan(META, UNSCORED + codec.encode_number(after + 1), UNSCORED)
        return (
            (codec.decode_number(what, key[len(UNSCORED) :]), codec.decode_number(what, value)) for key, value in scan
        )

    def last_second(self) -> int:
        """The second of the last moment; 0: there is none."""
        row = next(self._scan("moments", codec.encode_number(_LAST + 1), backwards=True), None)
        return 0 if row is None else codec.decode_number("a moment", row[0])

    def history_entry(self, number: int) -> HistoryEntry | None:
        """See `StoreView.history_entry`."""
        key = codec.encode_number(number)
        value = self._get("history", key) if number <= self._last else None
        return None if value is None else codec.decode_history(key, value)

    def dead_letters(self, after: int = -1) -> Iterator[tuple[int, DeadLetterRecord]]:
        """See `StoreView.dead_letters`."""
        scan = self._scan("dead_letters", codec.encode_number(after + 1))
        return (codec.decode_dead_letter(key, value) for key, value in scan)

    def _get(self, family: str, key: bytes) -> bytes | None:
        return self._read(family, key) if self._overlay is None else self._overlay.getter(family)(key)

    def _read(self, family: str, key: bytes) -> bytes | None:
        with self._lease as moment:
            try:
                value: bytes = moment.snapshots[family][key]
            except Exception as error:  # the library raises bare exceptions
                if str(error) == NOT_FOUND:
                    return None
                raise ours(error, self._folder) from error
            finally:
                del moment
        return value

    def _scan(self, family: str, start: bytes = b"", prefix: bytes = b"", *, backwards: bool = False) -> Rows:
        """Keys and values from `start` on, or from the key before it backwards, as long as the keys have the prefix."""
        rows = self._rows(family, start, prefix, backwards=backwards)
        return rows if self._overlay is None else self._overlay.scanned(family, rows, lambda: self._rows("deltas"))

    def _rows(self, family: str, start: bytes = b"", prefix: bytes = b"", *, backwards: bool = False) -> Rows:
        """What the family has of `_scan`.

        All scans of a family share its cursor. A scan seeks its own key again after another scan moved the cursor.
        """
        scan, seek = object(), start
        while True:
            row = self._row(family, scan, seek, backwards=backwards)
            if row is None:
                return
            key, value = row
            if not key.startswith(prefix):
                return
            seek = key if backwards else key + b"\0"
            yield key, value

    def _row(self, family: str, scan: object, seek: bytes, *, backwards: bool) -> tuple[bytes, bytes] | None:
        """The next key and value of a scan; None at its end. Nothing of the moment is held between two rows."""
        with self._lease as moment, translated(self._folder):
            rows = moment.cursors[family]
            if self._owners.get(family) is not scan:
                self._owners[family] = scan
                if backwards:
                    rows.seek_for_prev(seek)
                    if rows.valid() and rows.key() == seek:
                        rows.prev()
                else:
                    rows.seek(seek)
            elif backwards:
                rows.prev()
            else:
                rows.next()
            if not rows.valid():
                rows.status()
                return None
            return rows.key(), rows.value()
