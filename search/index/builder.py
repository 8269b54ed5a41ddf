"""Bulk building: entries that come in order of place go straight into sealed segments.

The header gets its name last, and only a folder with a header is an index. So an interrupted build leaves a folder that
is never opened. The result equals an index into which the same records were inserted one by one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from core.files import sync_folder
from core.pseudonyms import Pseudonyms
from core.types import NO_OFFSET, ImageId, LogPosition
from search.index.columns import Columns, Kind
from search.index.folder import HEADER, UNFINISHED, IndexFolder
from search.index.hidden_file import write_hidden
from search.index.id_table import Bounds, IdColumn, last_entries, repeated_entries
from search.index.manifest import Manifest, write_manifest
from search.index.packing import pack_rows
from search.index.placements import ANY_PLACE, ANY_VERSION
from search.index.segment import Segment, write_segment
from search.index.settings import IndexSettings

__all__ = ["SEGMENT_ENTRIES", "IndexBuilder"]

SEGMENT_ENTRIES = 2**21
"""Entries of one segment; with codes of 128 bytes they need about 1 GB of memory."""


class IndexBuilder:
    """Fills a new folder. It is a context manager; leaving it without `finish` removes the folder."""

    def __init__(self, folder: Path, settings: IndexSettings, segment_entries: int = SEGMENT_ENTRIES) -> None:
        """Makes the folder.

        Raises:
            BadInputError: The folder is not empty.
            IndexLockedError: Another process has it open.
        """
        if folder.exists() and any(folder.iterdir()):
            raise BadInputError(f"{folder} is not empty: an index is built in a folder of its own")
        self._path = folder
        self._settings = settings
        self._segment_entries = segment_entries
        self._folder = IndexFolder(folder, settings.identity)
        (folder / HEADER).rename(folder / UNFINISHED)
        sync_folder(folder)
        self._manifest = Manifest()
        self._segments: list[Segment] = []
        self._waiting: list[Columns] = []
        self._waiting_entries = 0
        self._last_place = -1
        self._finished = False

    @property
    def entries(self) -> int:
        """How many were added."""
        return self._waiting_entries + sum(len(one) for one in self._segments)

    def __enter__(self) -> IndexBuilder:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unlocks the folder; removes it when it was not finished."""
        self._folder.close()
        if not self._finished:
            shutil.rmtree(self._path, ignore_errors=True)

    def add(
        self,
        places: NDArray[np.int64],
        image_ids: Sequence[ImageId],
        versions: NDArray[np.uint64],
        terms: NDArray[np.uint32],
        codes: NDArray[np.uint8],
        kinds: NDArray[np.uint8] | None = None,
    ) -> None:
        """Appends placed image versions.

        An image may come again with a higher version. A delete may have the version before it, and so may a version
        that was skipped when it was placed first.

        Args:
            places: (n,) ascending; gaps are allowed.
            image_ids: n of them.
            versions: (n,)
            terms: (searchable versions, groups)
            codes: (searchable versions, code bytes)
            kinds: (n,) see `Kind`; None: all are searchable. Only these have terms and a code and can be found.

        Raises:
            BadInputError: Shapes do not fit the settings or each other, or places do not ascend.
        """
        n = len(places)
        kinds = np.full(n, Kind.SEARCHABLE, np.uint8) if kinds is None else kinds
        self._check(places, len(image_ids), versions, terms, codes, kinds == Kind.SEARCHABLE)
        if n == 0:
            return
        self._last_place = int(places[-1])
        rows = pack_rows(np.ascontiguousarray(terms, np.uint32), self._settings.bits_per_group)
        columns = Columns(
            places.astype(np.int64), versions.astype(np.uint64), kinds, IdColumn.of(image_ids), rows, [codes.copy()]
        )
        self._waiting.append(columns)
        self._waiting_entries += n
        if self._waiting_entries >= self._segment_entries:
            self._seal()

    def finish(self, position: LogPosition, released: int = NO_OFFSET, pseudonyms: Pseudonyms | None = None) -> None:
        """Makes the folder an index that has applied its log up to a position. The builder cannot be used afterwards.

        Args:
            position: The last record that the entries cover.
            released: As in `TermIndex.release`.
            pseudonyms: By which entries of forgotten images are named; None: there are none.

        Raises:
            BadInputError: A place lies after the position, or an image came again with a version that is not higher.
        """
        if position.offset < self._last_place:
            raise BadInputError(f"place {self._last_place} lies after the position, offset {position.offset}")
        self._seal()
        key = "" if pseudonyms is None else pseudonyms.key.hex()
        manifest = replace(self._manifest, position=position, released=released, forget_key=key)
        hides = [one.hides for one in self._segments]
        if any(hides):
            hidden, manifest = manifest.numbered("hidden")
            manifest = replace(manifest, hidden=hidden)
            write_hidden(self._path / hidden, self._segments, hides, self._settings.sync)
        write_manifest(self._path, manifest, self._settings.sync)
        (self._path / UNFINISHED).rename(self._path / HEADER)
        sync_folder(self._path)
        self._finished = True

    def _check(
        self,
        places: NDArray[np.int64],
        ids: int,
        versions: NDArray[np.uint64],
        terms: NDArray[np.uint32],
        codes: NDArray[np.uint8],
        searchable: NDArray[np.bool_],
    ) -> None:
        settings, n, m = self._settings, len(places), int(searchable.sum())
        shapes = (ids, versions.shape, searchable.shape, terms.shape, codes.shape)
        expected = (n, (n,), (n,), (m, settings.groups), (m, settings.code_bytes))
        if shapes != expected:
            raise BadInputError(
                f"ids, versions, searchable, terms and codes have the shapes {shapes}, expected {expected}"
            )
        if n and (int(places[0]) <= self._last_place or bool((np.diff(places) <= 0).any())):
            raise BadInputError(f"places must ascend from {self._last_place + 1} on")
        if m and int(terms.max()) >> settings.bits_per_group:
            raise BadInputError(f"there is a term of more than {settings.bits_per_group} bits")

    def _seal(self) -> None:
        if not self._waiting:
            return
        columns = Columns.joined(self._waiting)
        self._waiting, self._waiting_entries = [], 0
        name, self._manifest = self._manifest.numbered("segment")
        write_segment(self._path / name, columns, self._settings.shape, self._settings.sync)
        segment = Segment(self._path / name, self._settings.shape)
        self._hide_older(segment, columns.ids)
        self._segments.append(segment)
        self._manifest = replace(self._manifest, segments=(*self._manifest.segments, name))

    def _hide_older(self, new: Segment, ids: IdColumn) -> None:
        """Hides the entries of images that came again with a higher version."""
        older, newer = repeated_entries(new.id_table, ids)
        for first, second in zip(older.tolist(), newer.tolist(), strict=True):
            _hide(new, first, new, second)
        everything = Bounds(np.full(len(ids), ANY_PLACE), np.full(len(ids), ANY_VERSION, np.uint64))
        for segment in self._segments:
            found = last_entries(segment.id_table, segment.ids, segment.versions, ids, everything)
            for entry in np.flatnonzero(found >= 0).tolist():
                last = int(found[entry])
                if segment.last_seen_by(last) is None:
                    _hide(segment, last, new, entry)


def _hide(old: Segment, older: int, new: Segment, newer: int) -> None:
    again = Kind(new.kinds[newer]).is_delete or old.kinds[older] == Kind.SKIPPED
    if int(new.versions[newer]) < int(old.versions[older]) + (not again):
        raise BadInputError(
            f"image {new.ids[newer]!r} has version {int(new.versions[newer])} at place {int(new.places[newer])}, "
            f"after version {int(old.versions[older])} at place {int(old.places[older])}: versions must rise"
        )
    old.hide(older, int(new.places[newer]))
