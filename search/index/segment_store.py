"""The files of an index and the state in memory that they make up: opening, growing, sealing, merging, copying.

There are three kinds of locks. A `turn` is held through all of a seal or a merge, so that one thread seals and one
merges at a time. `changes` is held while one set of sealed files replaces another. The writer's lock is held briefly:
while the tail grows, and while one state replaces another.

Files are written first, then the manifest that names them. Then the state in memory changes, and replaced files are
removed last. Sealing appends a segment after all others, so the segments that a merge replaces keep their positions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import NeardupError, UnavailableError
from core.pseudonyms import Pseudonyms
from core.types import LogPosition
from search.index.errors import IndexDamagedError
from search.index.forgetting import Name, entries_of, wanted_names
from search.index.hidden_file import read_hidden, write_hidden
from search.index.interface import IndexBytes, IndexStats
from search.index.log_chain import LogChain
from search.index.manifest import read_manifest, remove_leftovers, upgrade_manifest, write_manifest
from search.index.merging import SegmentSize, choose_merge
from search.index.rewriting import Succession, droppable, hide_all
from search.index.segment import MAX_SEGMENT_ENTRIES, Segment
from search.index.segment_maker import LocalMaker, SegmentMaker
from search.index.segment_stats import expected_postings, segment_bytes, total_of
from search.index.settings import IndexSettings
from search.index.snapshot import SnapshotWriter
from search.index.state import State
from search.index.tail import Tail

__all__ = ["SegmentStore"]

log = logging.getLogger(__name__)

_MOST_FROZEN = 8
"""When so many full tails wait to be sealed, the writer waits."""

_ROOM_WAIT_S = 5.0

_SMALL_ENTRIES = 2**21
"""A segment of at most so many entries is rewritten as soon as an image in it is to be erased: in seconds."""

_REST_S = 6 * 3600.0
"""A larger one is rewritten at most once in so many seconds, for all images that were forgotten meanwhile."""

_MANY_MERGES = 8
"""With so many times `merge_fan` segments, searches slow down more than a merge without rate limit slows them."""


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A full tail that waits to be sealed."""

    tail: Tail
    next_log: int
    """The number of the first log without its records."""
    position: LogPosition
    """The position of its last record."""


class SegmentStore:
    """The files and the state of one index."""

    def __init__(
        self,
        folder: Path,
        settings: IndexSettings,
        writer: threading.RLock,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens the files that the manifest names; `replay` must run to its end before anything else.

        `clock` gives seconds since the epoch.

        Raises:
            IndexDamagedError: A file is missing or damaged.
        """
        self._path = folder
        self._settings = settings
        self._writer = writer
        self._clock = clock
        self._changes = threading.RLock()
        self._seal_turn, self._merge_turn = threading.Lock(), threading.Lock()
        self._room = threading.Event()
        manifest = read_manifest(folder)
        if manifest is None:
            raise IndexDamagedError(f"the manifest of {folder} is missing: restore it, or build the index again")
        upgrade_manifest(folder, manifest, settings.sync)
        self.manifest = manifest
        self._released = manifest.released
        leftovers = remove_leftovers(folder, manifest)
        if leftovers:
            log.warning("%s: removed leftovers of interrupted work: %s", folder, ", ".join(leftovers))
        segments = tuple(Segment(folder / name, settings.shape) for name in manifest.segments)
        if manifest.hidden is not None:
            read_hidden(folder / manifest.hidden, segments)
        self.state = State(segments, (Tail(settings.shape),), manifest.pseudonyms)
        self._hidden_bytes = self._size_of(manifest.hidden)
        self._frozen: list[_Frozen] = []
        self._merging = False
        self._maker = LocalMaker(settings.shape, settings.sync)
        self._logs = LogChain(folder, manifest.first_log, settings.sync)

    @property
    def images(self) -> int:
        """Searchable entries of the sealed segments that are not hidden."""
        segments = self.state.segments
        return total_of(segments, "searchable") - sum(sum(map(one.is_searchable, one.hides)) for one in segments)

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """See `LogChain.replay`."""
        return self._logs.replay()

    def append(self, frame: bytes) -> None:
        """Adds a frame to the log; it survives a crash once this returns."""
        self._logs.append(frame)

    def close(self) -> None:
        """Keeps what was released, and closes the logs; mapped files are closed when the last reader drops them."""
        self._logs.close()
        if self._released > self.manifest.released:
            # A storage that is put back to an earlier state is recognised by it.
            with suppress(OSError):
                write_manifest(self._path, replace(self.manifest, released=self._released), self._settings.sync)

    @property
    def is_full(self) -> bool:
        """Whether too many full tails wait to be sealed to accept another."""
        return len(self._frozen) >= _MOST_FROZEN

    def wait_for_room(self) -> None:
        """Waits a while if too many full tails wait to be sealed. Not under the writer's lock, which sealing needs.

        Raises:
            UnavailableError: Too many still wait; the disk is full or too slow.
        """
        if self.is_full:
            self._room.clear()
            if self.is_full and not self._room.wait(_ROOM_WAIT_S):
                raise UnavailableError(f"{len(self._frozen)} full tails of {self._path} wait to be sealed", 1.0)

    def rotate(self, position: LogPosition) -> None:
        """Sets a full tail aside and begins another with its own log. The caller holds the writer's lock."""
        try:
            next_log = self._logs.rotate()
        except UnavailableError as error:
            log.warning("the tail keeps growing: %s", error)
            return
        self._frozen.append(_Frozen(self.state.tail, next_log, position))
        self.state = replace(self.state, tails=(*self.state.tails, Tail(self._settings.shape)))

    @property
    def released(self) -> int:
        """See `TermIndex.released`."""
        return self._released

    def release(self, offset: int) -> None:
        """See `TermIndex.release`."""
        self._released = max(self._released, offset)

    @property
    def sealing_is_urgent(self) -> bool:
        """Whether more than one full tail waits; every search compares with all entries of a tail."""
        return len(self._frozen) > 1

    @property
    def merging_is_urgent(self) -> bool:
        """Whether there are more segments than rate-limited merging should leave."""
        return len(self.state.segments) > _MANY_MERGES * self._settings.merge_fan

    def seal(self, maker: SegmentMaker | None = None) -> bool:
        """Makes a segment of the oldest full tail; returns whether there was one.

        Args:
            maker: Writes it; None: the calling thread does, without a rate limit.

        Raises:
            OSError: It could not be written; nothing changed.
            WorkStopped: The maker was stopped; nothing changed.
        """
        with self._seal_turn:
            if not self._frozen:
                return False
            self._seal(self._frozen[0], maker or self._maker)
            return True

    def merge(self, maker: SegmentMaker | None = None) -> bool:
        """Merges some neighbouring segments; returns whether a merge was due. Takes and raises the same as `seal`."""
        with self._merge_turn:
            segments = self.state.segments
            chosen = choose_merge(
                self._sizes(segments), self._settings.seal_entries, self._settings.merge_fan, MAX_SEGMENT_ENTRIES
            )
            if chosen is None:
                return False
            self._merging = True
            try:
                self._merge(chosen[0], segments[slice(*chosen)], maker or self._maker)
            finally:
                self._merging = False
            return True

    def erase(self, maker: SegmentMaker | None = None) -> bool:
        """Rewrites the oldest segment that holds the id of an image to be erased; returns whether there was one.

        The delete that forgets the image lies in the youngest of them, so a crash leaves the delete to begin again
        with. Takes and raises the same as `seal`.
        """
        with self._merge_turn:
            segments = self.state.segments
            if not any(place <= self._released for one in segments for _, place in one.forgets):
                return False
            wanted = wanted_names(segments, self._names, self._released)
            for number, segment in enumerate(segments):
                names = [name for name in wanted if entries_of(segment, name)]
                if not names:
                    continue
                if self._rests(segment):
                    return False  # those after it hold the deletes that name what is left here
                self._merging = True
                try:
                    self._merge(number, (segment,), maker or self._maker, names)
                finally:
                    self._merging = False
                return True
            return False

    def _rests(self, segment: Segment) -> bool:
        """Whether a large segment was written lately, so that it is not rewritten again for each image."""
        written = segment.path.stat().st_mtime
        return len(segment) > _SMALL_ENTRIES and self._clock() - written < _REST_S

    @property
    def tail_forgets(self) -> bool:
        """Whether the tail that grows holds a delete that forgets an image, and is released."""
        return any(place <= self._released for place in self.state.tail.forgets)

    @property
    def _names(self) -> Pseudonyms:
        """The names of forgotten images. The first rewritten segment brings them into the manifest."""
        with self._changes:
            names = self.manifest.pseudonyms or Pseudonyms.fresh()
            self.manifest = replace(self.manifest, forget_key=names.key.hex())
            return names

    def stats(self, position: LogPosition, images: int, queries: int, query_postings: int) -> IndexStats:
        """See `TermIndex.stats`."""
        state = self.state
        return IndexStats(
            position=position,
            released=self._released,
            images=images,
            entries=sum(len(source.places) for source in state.sources),
            segments=len(state.segments),
            tail=sum(len(tail) for tail in state.tails),
            merging=self._merging,
            bytes=self.bytes(),
            term_sets=total_of(state.segments, "term_sets"),
            postings=total_of(state.segments, "postings"),
            posting_lists=total_of(state.segments, "lists"),
            expected_postings=expected_postings(state.segments),
            queries=queries,
            query_postings=query_postings,
            forgetting=sum(len(tail.forgets) for tail in state.tails) + sum(len(one.forgets) for one in state.segments),
        )

    def bytes(self) -> IndexBytes:
        """Bytes of all files by part."""
        return segment_bytes(self.state.segments, self._hidden_bytes, self._logs.size)

    def snapshot(self, folder: Path, position: Callable[[], LogPosition]) -> LogPosition:
        """See `TermIndex.snapshot`."""
        with self._changes:
            with self._writer:
                logs, at, manifest = self._logs.sizes(), position(), replace(self.manifest, released=self._released)
            snapshot = SnapshotWriter(self._path, folder, manifest, logs)
        snapshot.finish(at)
        return at

    def _sizes(self, segments: Sequence[Segment]) -> list[SegmentSize]:
        released = self._released
        return [
            SegmentSize(len(one), int(droppable(one, one.hides.copy(), released).sum()), one.section_bytes["ids"])
            for one in segments
        ]

    def _seal(self, frozen: _Frozen, maker: SegmentMaker) -> None:
        succession = Succession([frozen.tail])
        path = self._path / self._new_name("segment")
        maker.seal(path, frozen.tail.columns())
        segment = self._opened(path, succession.hides[0])
        with self._changes:
            segments = (*self.state.segments, segment)
            self._commit(segment, segments, first_log=frozen.next_log, position=frozen.position)
            with self._writer:
                succession.follow(segment)
                self.state = replace(self.state, segments=segments, tails=self.state.tails[1:])
                self._frozen.pop(0)
                self._logs.drop_before(frozen.next_log)
        self._room.set()

    def _merge(self, first: int, old: Sequence[Segment], maker: SegmentMaker, names: Sequence[Name] = ()) -> None:
        """Merges neighbouring segments into one, without the entries that no search can find any more.

        Entries of images that are to be erased get their names.
        """
        released = self._released
        succession = Succession(old)
        path = self._path / self._new_name("segment")
        merged = self._opened(path, maker.merge(path, old, succession.hides, released, names))
        with self._changes:
            now = self.state.segments
            segments = (*now[:first], merged, *now[first + len(old) :])
            # Sealing a tail meanwhile may have removed the log that says what was hidden meanwhile.
            succession.follow(merged)
            self._commit(merged, segments, released=released)
            with self._writer:
                succession.follow(merged)
                self.state = replace(self.state, segments=segments, pseudonyms=self.manifest.pseudonyms)
        for one in old:
            one.path.unlink(missing_ok=True)

    def _opened(self, path: Path, hides: dict[int, int]) -> Segment:
        # Opening it checks every byte, so all of it is in memory before the first search.
        segment = Segment(path, self._settings.shape)
        hide_all(segment, hides)
        return segment

    def _new_name(self, kind: str) -> str:
        with self._changes:
            name, self.manifest = self.manifest.numbered(kind)
            return name

    def _commit(self, new: Segment, segments: Sequence[Segment], **changes: int | LogPosition) -> None:
        """Writes the file of hidden entries and the manifest; removes the file of hidden entries that was replaced.

        Args:
            new: The segment that was just written; it is removed after an error.
            segments: All segments from now on, in order of age.
            changes: Further changes of the manifest.
        """
        before = self.manifest.hidden
        hides = [one.hides.copy() for one in segments]
        hidden = self._new_name("hidden") if any(hides) else None
        try:
            if hidden is not None:
                write_hidden(self._path / hidden, segments, hides, self._settings.sync)
            names = tuple(one.path.name for one in segments)
            manifest = replace(self.manifest, segments=names, hidden=hidden, **changes)  # type: ignore[arg-type]
            write_manifest(self._path, manifest, self._settings.sync)
        except OSError:
            self._remove_unnamed(new.path.name, hidden)
            raise
        self.manifest, self._hidden_bytes = manifest, self._size_of(hidden)
        if before is not None:
            (self._path / before).unlink(missing_ok=True)

    def _size_of(self, name: str | None) -> int:
        return 0 if name is None else (self._path / name).stat().st_size

    def _remove_unnamed(self, *names: str | None) -> None:
        """Removes new files after an error, except those that the manifest names: if only the last sync failed, the
        manifest was replaced."""
        try:
            written = read_manifest(self._path)
        except NeardupError:
            return
        kept = () if written is None else (*written.segments, written.hidden)
        for name in names:
            if name is not None and name not in kept:
                (self._path / name).unlink(missing_ok=True)
