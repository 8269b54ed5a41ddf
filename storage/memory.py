"""The store in memory: the reference for every other store, and useful in tests. Nothing outlives the process."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from core.errors import UnavailableError
from core.overrides import Override
from core.pseudonyms import Pseudonyms
from core.types import DeadLetterRecord, ImageId, Lookup, Tombstone
from storage.base import StagedStore, system_ms
from storage.interfaces import StoreView
from storage.moving import Erased
from storage.records import (
    ClusterRecord,
    DeltaProgress,
    Edge,
    EmbeddingRecord,
    EndedCluster,
    EraseCursor,
    Erasure,
    HistoryEntry,
    ImageRecord,
    PublishedMark,
    StoreEpoch,
    StoreState,
)
from storage.staging import Changes, Reader
from storage.sweeping import Sweep

__all__ = ["MemoryStore"]

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Content(StoreView):
    """Plain dictionaries. A view is a copy of them."""

    current: StoreState = field(default_factory=StoreState)
    out: int = 0
    lies_at: PublishedMark | None = None
    lives_in: StoreEpoch | None = None
    image_of: dict[ImageId, ImageRecord] = field(default_factory=dict)
    cluster_of: dict[ImageId, ClusterRecord] = field(default_factory=dict)
    members_of: dict[ImageId, dict[int, ImageId]] = field(default_factory=dict)
    """Sequence -> member, in the order of sequences."""
    embedding_at: dict[int, EmbeddingRecord] = field(default_factory=dict)
    tombstone_of: dict[ImageId, Tombstone] = field(default_factory=dict)
    entries: list[HistoryEntry] = field(default_factory=list)
    dead_letter_of: dict[int, DeadLetterRecord] = field(default_factory=dict)
    moments: dict[int, int] = field(default_factory=dict)
    """Second -> number, ascending."""
    ended_of: dict[ImageId, list[EndedCluster]] = field(default_factory=dict)
    unscored_at: dict[int, int] = field(default_factory=dict)
    """Offset -> place, of swept entries, ascending."""
    names: Pseudonyms | None = None
    erasure_of: dict[ImageId, Erasure] = field(default_factory=dict)
    erasing: EraseCursor | None = None
    delta_of: dict[str, DeltaProgress] = field(default_factory=dict)

    def copy(self) -> _Content:
        return _Content(
            self.current,
            self.out,
            self.lies_at,
            self.lives_in,
            dict(self.image_of),
            dict(self.cluster_of),
            {head: dict(members) for head, members in self.members_of.items()},
            dict(self.embedding_at),
            dict(self.tombstone_of),
            list(self.entries),
            dict(self.dead_letter_of),
            dict(self.moments),
            {head: list(ended) for head, ended in self.ended_of.items()},
            dict(self.unscored_at),
            self.names,
            dict(self.erasure_of),
            self.erasing,
            dict(self.delta_of),
        )

    def state(self) -> StoreState:
        return self.current

    def published(self) -> int:
        return self.out

    def published_mark(self) -> PublishedMark | None:
        return self.lies_at

    def epoch(self) -> StoreEpoch | None:
        return self.lives_in

    def delta(self, manifest_id: str) -> DeltaProgress | None:
        return self.delta_of.get(manifest_id)

    def deltas(self) -> Sequence[DeltaProgress]:
        return tuple(sorted(self.delta_of.values(), key=lambda each: (each.started_ms, each.request.manifest_id)))

    def image(self, image_id: ImageId) -> ImageRecord | None:
        return self.image_of.get(image_id)

    def cluster(self, head: ImageId) -> ClusterRecord | None:
        return self.cluster_of.get(head)

    def tombstone(self, image_id: ImageId) -> Tombstone | None:
        found = self.tombstone_of.get(image_id)
        if found is None and self.names is not None:
            found = self.tombstone_of.get(self.names.of(image_id))
        return found

    def pseudonyms(self) -> Pseudonyms | None:
        return self.names

    def erasures(self) -> Iterator[Erasure]:
        return (self.erasure_of[key] for key in sorted(self.erasure_of))

    def erasure(self, pseudonym: ImageId) -> Erasure | None:
        return self.erasure_of.get(pseudonym)

    def erase_cursor(self) -> EraseCursor | None:
        return self.erasing

    def tombstones(self) -> Iterator[Tombstone]:
        return (self.tombstone_of[key] for key in sorted(self.tombstone_of, key=str.encode))

    def embedding(self, place: int) -> EmbeddingRecord | None:
        return self.embedding_at.get(place)

    def images(self) -> Iterator[ImageRecord]:
        return (self.image_of[key] for key in sorted(self.image_of, key=str.encode))

    def clusters(self) -> Iterator[ClusterRecord]:
        return (self.cluster_of[key] for key in sorted(self.cluster_of, key=str.encode))

    def edges(self) -> Iterator[Edge]:
        heads = sorted(self.members_of, key=lambda head: (len(head.encode()), head.encode()))
        return (edge for head in heads for edge in self.edges_of(head, 0))

    def edges_of(self, head: ImageId, after: int) -> Iterator[Edge]:
        members = self.members_of.get(head, {})
        return (Edge(head, sequence, member) for sequence, member in members.items() if sequence > after)

    def edges_back(self, head: ImageId, before: int) -> Iterator[Edge]:
        members = self.members_of.get(head, {})
        return (Edge(head, sequence, members[sequence]) for sequence in reversed(members) if sequence < before)

    def embeddings(self) -> Iterator[EmbeddingRecord]:
        return (self.embedding_at[place] for place in sorted(self.embedding_at))

    def history_from(self, after: int) -> Iterator[HistoryEntry]:
        return iter(self.entries[bisect_right(self.entries, after, key=lambda entry: entry.number) :])

    def ended_clusters(self, head: ImageId, after: int) -> Iterator[EndedCluster]:
        return (ended for ended in self.ended_of.get(head, ()) if ended.number > after)

    def ended(self) -> Iterator[tuple[ImageId, EndedCluster]]:
        heads = sorted(self.ended_of, key=lambda head: (len(head.encode()), head.encode()))
        return ((head, ended) for head in heads for ended in self.ended_of[head])

    def moment(self, second: int) -> int | None:
        return next((number for at, number in reversed(self.moments.items()) if at <= second), None)

    def first_moment(self) -> int | None:
        return next(iter(self.moments.values()), None)

    def seconds_from(self, second: int) -> Iterator[tuple[int, int]]:
        return (each for each in self.moments.items() if each[0] >= second)

    def swept_unscored(self, after: int) -> Iterator[tuple[int, int]]:
        return (each for each in self.unscored_at.items() if each[0] > after)

    def dead_letters(self, after: int = -1) -> Iterator[tuple[int, DeadLetterRecord]]:
        return iter(sorted(item for item in self.dead_letter_of.items() if item[0] > after))

    def take(self, changes: Changes) -> None:
        self.current = changes.state
        _update(self.image_of, changes.images)
        _update(self.cluster_of, changes.clusters)
        _update(self.embedding_at, changes.embeddings)
        _update(self.tombstone_of, changes.tombstones)
        for (head, sequence), member in changes.edges.items():
            members = self.members_of.setdefault(head, {})
            grows = sequence in members or sequence > next(reversed(members), 0)
            if member is None:
                members.pop(sequence, None)
            else:
                members[sequence] = member
            if not members:
                del self.members_of[head]
            elif not grows:  # a mended edge
                self.members_of[head] = dict(sorted(members.items()))
        self.entries.extend(changes.history)
        for head, ended in changes.ended:
            self.ended_of.setdefault(head, []).append(ended)
        self.dead_letter_of.update(changes.dead_letters)
        self.delta_of.update(changes.deltas)
        self.names = changes.pseudonyms or self.names
        self.erasure_of.update(changes.erasures)
        if changes.erased is not None:
            self._erase(changes.erased)
        if changes.second is not None:
            self.moments[changes.second] = changes.state.history_number

    def sweep(self, state: StoreState, sweep: Sweep) -> None:
        self.current = state
        del self.entries[: len(sweep.entries)]
        for head, number in sweep.ended:
            kept = [ended for ended in self.ended_of.pop(head, ()) if ended.number != number]
            if kept:
                self.ended_of[head] = kept
        if sweep.seconds is not None:
            start, end = sweep.seconds
            self.moments = {second: number for second, number in self.moments.items() if not start <= second < end}
        self.unscored_at.update(sweep.unscored)

    def _erase(self, gone: Erased) -> None:
        self.erasing = gone.cursor
        for entry in gone.entries:
            self.entries[bisect_left(self.entries, entry.number, key=lambda each: each.number)] = entry
        for head, number in gone.ended:
            self.ended_of[head] = [each for each in self.ended_of[head] if each.number != number]
        for offset in gone.dead_letters:
            self.dead_letter_of.pop(offset, None)


def _update(content: dict[K, V], changes: Mapping[K, V | None]) -> None:
    for key, value in changes.items():
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value


class MemoryStore(StagedStore):
    """A store that forgets everything at exit. A view costs a copy of the whole content."""

    def __init__(self, folder: Path | None = None, identity: str = "", now_ms: Callable[[], int] = system_ms) -> None:
        """Makes an empty store. It takes the arguments of every store, and has no use for the first two."""
        super().__init__(now_ms)
        self._lock = threading.Lock()
        self._content: _Content | None = _Content()

    @contextmanager
    def snapshot(self) -> Iterator[StoreView]:
        """See `ClusterStore.snapshot`."""
        with self._lock:
            view = self._open().copy()
        yield view

    def look_up(self, ids: Iterable[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """See `ClusterStore.look_up`."""
        asked = tuple(ids)
        with self.snapshot() as view:
            return self._with_rules(view.look_up(asked, verdicts_of), asked, view.heads)

    def close(self) -> None:
        """Drops the content."""
        with self._lock:
            self._content = None

    def _open(self) -> _Content:
        if self._content is None:
            raise UnavailableError("the store is closed")
        return self._content

    def _current(self) -> tuple[StoreState, Reader]:
        content = self._open()
        return content.current, content

    def _commit(self, changes: Changes) -> None:
        with self._lock:
            self._open().take(changes)

    def _keep(self, override: Override) -> None:
        """Nothing outlives the process, so what `_book` holds is enough."""

    def _commit_published(self, number: int, mark: PublishedMark | None) -> None:
        with self._lock:
            content = self._open()
            content.out, content.lies_at = number, mark

    def _commit_epoch(self, epoch: StoreEpoch) -> None:
        with self._lock:
            content = self._open()
            content.lives_in, content.out, content.lies_at = epoch, epoch.first - 1, None

    def _commit_swept(self, state: StoreState, sweep: Sweep) -> None:
        with self._lock:
            self._open().sweep(state, sweep)

    def _commit_sent(self, offsets: Collection[int]) -> None:
        with self._lock:
            content = self._open()
            for offset in offsets:
                content.dead_letter_of.pop(offset, None)
