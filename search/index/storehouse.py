"""The files of an index and the state made of them: what opens, grows, seals, merges and copies.

Two locks. `maintenance` is held by whoever changes which sealed files there are, through all of the work. The writer's
is held for moments: while the tail grows, and while one state takes the place of another. Files are written first, then
the manifest that names them, then the state in memory changes, and what it replaced is removed last.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from search.errors import BadInputError, UnavailableError
from search.index.columns import Columns
from search.index.errors import IndexDamagedError
from search.index.hidden_file import read_hidden, write_hidden
from search.index.interface import IndexBytes, IndexStats
from search.index.log_chain import LogChain
from search.index.manifest import Manifest, read_manifest, remove_leftovers, sync_folder, write_manifest
from search.index.merging import SegmentSize, choose_merge
from search.index.segment import MAX_SEGMENT_ENTRIES, Segment, write_segment
from search.index.settings import IndexSettings
from search.index.source import Source
from search.index.state import State
from search.index.tail import Tail
from search.types import LogPosition

__all__ = ["Storehouse"]

log = logging.getLogger(__name__)

_MOST_FROZEN = 8
"""Full tails that may wait to be sealed; the writer waits then."""

_ROOM_WAIT_S = 5.0

_PARTS = {
    "postings": ("postings",),
    "dictionary": ("directory", "bases"),
    "sharing": ("shares", "shared_heads", "shared_starts", "shared_entries", "follower_entries", "follower_heads",
                "heads", "heads_counts"),
    "terms": ("terms",),
    "codes": ("codes", "searchable", "searchable_counts"),
    "ids": ("id_offsets", "ids", "id_buckets", "id_tags", "id_entries"),
    "places": ("places", "versions", "kinds"),
}  # fmt: skip
"""Sections by part of `IndexBytes`."""


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A full tail that waits to be sealed."""

    tail: Tail
    next_log: int
    """The first log without its records."""
    position: LogPosition
    """Its last record."""


class Storehouse:
    """Files and state of one index."""

    def __init__(self, folder: Path, settings: IndexSettings, writer: threading.RLock) -> None:
        """Opens what the manifest names; `replay` must run to its end before anything else.

        Raises:
            IndexDamagedError: A file is missing or damaged.
        """
        self._path = folder
        self._settings = settings
        self._writer = writer
        self._maintenance = threading.RLock()
        self._room = threading.Event()
        self._room.set()
        manifest = read_manifest(folder)
        if manifest is None:
            raise IndexDamagedError(f"the manifest of {folder} is missing: restore it, or build the index anew")
        self.manifest = manifest
        self._released = manifest.released
        leftovers = remove_leftovers(folder, manifest)
        if leftovers:
            log.warning("%s: removed what was left of work that was broken off: %s", folder, ", ".join(leftovers))
        segments = tuple(Segment(folder / name, settings.shape) for name in manifest.segments)
        if manifest.hidden is not None:
            read_hidden(folder / manifest.hidden, segments)
        self.state = State(segments, (Tail(settings.shape),))
        self._frozen: list[_Frozen] = []
        self._merging = False
        self._logs = LogChain(folder, manifest.first_log, settings.sync)

    @property
    def images(self) -> int:
        """Searchable entries of the sealed segments that are in sight."""
        segments = self.state.segments
        return sum(one.facts["searchable"] - sum(map(one.is_searchable, one.hides)) for one in segments)

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """See `LogChain.replay`."""
        return self._logs.replay()

    def append(self, frame: bytes) -> None:
        """Adds a frame to the log; when this returns it survives a crash."""
        self._logs.append(frame)

    def close(self) -> None:
        """Closes the logs; mapped files go with those who still read them."""
        self._logs.close()

    @property
    def is_full(self) -> bool:
        """Whether so many full tails wait to be sealed that no more are taken."""
        return len(self._frozen) >= _MOST_FROZEN

    def wait_for_room(self) -> None:
        """Waits a while when too many full tails wait to be sealed.

        Raises:
            UnavailableError: They still do: the disk is full or too slow.
        """
        if self.is_full:
            self._room.clear()
            if self.is_full and not self._room.wait(_ROOM_WAIT_S):
                raise UnavailableError(f"{len(self._frozen)} full tails of {self._path} wait to be sealed", 1.0)

    def rotate(self, position: LogPosition) -> None:
        """Sets a full tail aside and begins another, with a log of its own. The caller holds the writer's lock."""
        try:
            next_log = self._logs.rotate()
        except UnavailableError as error:
            log.warning("the tail goes on growing: %s", error)
            return
        self._frozen.append(_Frozen(self.state.tail, next_log, position))
        self.state = State(self.state.segments, (*self.state.tails, Tail(self._settings.shape)))

    def release(self, offset: int) -> None:
        """See `TermIndex.release`."""
        self._released = max(self._released, offset)

    def step(self, stopping: Callable[[], bool]) -> bool:
        """Seals one full tail, else merges once; whether there was anything to do.

        Raises:
            OSError: It could not be written; nothing changed.
        """
        with self._maintenance:
            if self._frozen:
                self._seal(self._frozen[0])
                return True
            chosen = choose_merge(
                self._sizes(), self._settings.seal_entries, self._settings.merge_fan, MAX_SEGMENT_ENTRIES
            )
            if chosen is None:
                return False
            return self._merge(*chosen, stopping)

    def stats(self, position: LogPosition, images: int, queries: int, query_postings: int) -> IndexStats:
        """See `TermIndex.stats`."""
        state = self.state
        facts = [one.facts for one in state.segments]
        searchable = sum(one["searchable"] for one in facts)
        # A query drawn from all segments meets in each about what a query drawn from that one does.
        expected = sum(one["squares"] / max(1, one["term_sets"]) for one in facts)
        return IndexStats(
            position=position,
            released=self._released,
            images=images,
            entries=sum(len(source.places) for source in state.sources),
            segments=len(facts),
            tail=sum(len(tail) for tail in state.tails),
            merging=self._merging,
            bytes=self.bytes(),
            term_sets=sum(one["term_sets"] for one in facts),
            postings=sum(one["postings"] for one in facts),
            posting_lists=sum(one["lists"] for one in facts),
            expected_postings=expected if searchable else 0.0,
            queries=queries,
            query_postings=query_postings,
        )

    def bytes(self) -> IndexBytes:
        """Bytes of all files by part."""
        manifest = self.manifest
        sections = [one.section_bytes for one in self.state.segments]
        parts = {part: sum(one[name] for one in sections for name in names) for part, names in _PARTS.items()}
        hidden = (self._path / manifest.hidden).stat().st_size if manifest.hidden else 0
        return IndexBytes(**parts, removed=hidden, log=self._logs.size)

    def snapshot(self, folder: Path, position: Callable[[], LogPosition]) -> LogPosition:
        """See `TermIndex.snapshot`."""
        with self._maintenance:
            try:
                folder.mkdir(parents=True)
            except FileExistsError as error:
                raise BadInputError(f"{folder} exists: a snapshot makes its own folder") from error
            try:
                with self._writer:
                    logs, at, manifest = self._logs.sizes(), position(), replace(self.manifest, released=self._released)
                for name in (*manifest.segments, *([manifest.hidden] if manifest.hidden else [])):
                    os.link(self._path / name, folder / name)
                for name, size in logs.items():
                    _copy(self._path / name, folder / name, size)
                shutil.copyfile(self._path / "index.json", folder / "index.json")
                write_manifest(folder, manifest)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise UnavailableError(f"cannot write the snapshot {folder}: {error.strerror}") from error
            sync_folder(folder.parent)
            return at

    def _sizes(self) -> list[SegmentSize]:
        released = self._released
        return [
            SegmentSize(
                len(one), sum(value - 1 <= released for value in one.hides.copy().values()), one.section_bytes["ids"]
            )
            for one in self.state.segments
        ]

    def _seal(self, frozen: _Frozen) -> None:
        """Makes a segment of the oldest full tail."""
        name, manifest = self.manifest.numbered("segment")
        start = len(frozen.tail.hide_order)
        hides = frozen.tail.hides.copy()
        segment = self._write(name, frozen.tail.columns())
        _hide_all(segment, hides)
        segments = self.state.segments
        manifest = replace(
            manifest,
            segments=(*manifest.segments, name),
            first_log=frozen.next_log,
            position=frozen.position,
        )
        self._commit(manifest, (*segments, segment))
        with self._writer:
            _follow(segment, [(frozen.tail, 0, start)])
            self.state = State((*segments, segment), self.state.tails[1:])
            self._frozen.pop(0)
            self._logs.drop_before(frozen.next_log)
        self._room.set()

    def _merge(self, first: int, last: int, stopping: Callable[[], bool]) -> bool:
        """Makes one segment of some neighbours, without what no search can find any more."""
        self._merging = True
        try:
            segments = self.state.segments
            old = segments[first:last]
            name, manifest = self.manifest.numbered("segment")
            starts = [len(one.hide_order) for one in old]
            hides = [one.hides.copy() for one in old]
            columns, kept = _merged(old, hides, self._released)
            merged = self._write(name, columns)
            _hide_all(merged, kept)
            if stopping():
                merged.path.unlink()
                return False
            names = (*manifest.segments[:first], name, *manifest.segments[last:])
            merged_segments = (*segments[:first], merged, *segments[last:])
            self._commit(replace(manifest, segments=names, released=self._released), merged_segments)
            edges = [0]
            for one in old:
                edges.append(edges[-1] + len(one))
            with self._writer:
                _follow(merged, list(zip(old, edges, starts, strict=False)))
                self.state = State(merged_segments, self.state.tails)
            for one in old:
                one.path.unlink()
            return True
        finally:
            self._merging = False

    def _write(self, name: str, columns: Columns) -> Segment:
        path = self._path / name
        write_segment(path, columns, self._settings.shape, self._settings.sync)
        return Segment(path, self._settings.shape)

    def _commit(self, manifest: Manifest, segments: Sequence[Segment]) -> None:
        """Writes down what is hidden in these segments, and the manifest; removes the file that this replaces."""
        before = self.manifest.hidden
        hides = [one.hides.copy() for one in segments]
        hidden, manifest = manifest.numbered("hidden") if any(hides) else (None, manifest)
        if hidden is not None:
            write_hidden(self._path / hidden, segments, hides, self._settings.sync)
        manifest = replace(manifest, hidden=hidden)
        write_manifest(self._path, manifest, self._settings.sync)
        self.manifest = manifest
        if before is not None:
            (self._path / before).unlink(missing_ok=True)


def _merged(old: Sequence[Segment], hides: Sequence[dict[int, int]], released: int) -> tuple[Columns, dict[int, int]]:
    """The entries of some neighbours as one, and what stays hidden among them."""
    parts, kept, edge = [], {}, 0
    for segment, hidden in zip(old, hides, strict=True):
        dropped = sorted(e for e, value in hidden.items() if value - 1 <= released and segment.is_searchable(e))
        gone = set(dropped)
        parts.append(segment.columns().without(np.array(dropped, np.int64)))
        kept.update({edge + entry: value for entry, value in hidden.items() if entry not in gone})
        edge += len(segment)
    return Columns.joined(parts), kept


def _hide_all(source: Source, hides: dict[int, int]) -> None:
    for entry, value in hides.items():
        source.hide(entry, value - 1)


def _follow(new: Source, old: Sequence[tuple[Source, int, int]]) -> None:
    """Hides in a new source what was hidden in old ones since: (source, its first entry in the new one, since when)."""
    for source, edge, start in old:
        for entry in source.hide_order[start:]:
            new.hide(edge + entry, source.hides[entry] - 1)


def _copy(source: Path, target: Path, size: int) -> None:
    """Copies the first bytes of a file, and waits for the disk."""
    with source.open("rb") as reader, target.open("wb") as writer:
        while size > 0:
            chunk = reader.read(min(size, 2**20))
            if not chunk:
                raise OSError(5, f"{source} is shorter than it was")
            writer.write(chunk)
            size -= len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
