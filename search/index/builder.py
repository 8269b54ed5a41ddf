"""Bulk building: entries that come in order of place go straight into sealed segments.

The header gets its name last, and only a folder with a header is an index. So an interrupted build leaves a folder that
is never opened. A build with a name goes on in it: what is sealed stays, as the manifest says. The segments end at the
same entries however the rows come, so the files are those of a build that was not interrupted. The result equals an
index into which the same records were inserted one by one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from core.checked_json import read_checked, write_checked
from core.errors import BadInputError
from core.files import sync_folder
from core.pseudonyms import Pseudonyms
from core.types import NO_OFFSET, ImageId, LogPosition
from search.index.columns import Columns, Kind
from search.index.errors import IndexDamagedError
from search.index.folder import HEADER, UNFINISHED, IndexFolder
from search.index.hidden_file import read_hidden, write_hidden
from search.index.id_table import Bounds, IdColumn, last_entries, repeated_entries
from search.index.manifest import Manifest, read_manifest, remove_leftovers, write_manifest
from search.index.packing import pack_rows, row_bytes
from search.index.placements import ANY_PLACE, ANY_VERSION
from search.index.planning import RecordShape
from search.index.segment import Segment, write_segment
from search.index.settings import IndexSettings

__all__ = ["SEGMENT_ENTRIES", "IndexBuilder", "VersionOrderError", "build_name", "entries_of_segment"]

SEGMENT_ENTRIES = 2**21
"""The most entries of one segment."""

_SEALING_BYTES = 900_000_000
"""What sealing a segment may take, about."""

_BUILD = "build.json"
_BUILD_FORMAT = 1


class VersionOrderError(BadInputError):
    """An image came again with a version that is not higher; `place` is that of the later one."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


def entries_of_segment(shape: RecordShape) -> int:
    """The entries of a segment, so that sealing it takes less than a GB of memory."""
    # An entry has its code, its packed terms and four bytes of each posting, once as input and once as output.
    entry_bytes = 2 * (shape.code_bytes + row_bytes(shape.groups, shape.bits_per_group) + 4 * shape.groups)
    return min(SEGMENT_ENTRIES, max(1, _SEALING_BYTES // entry_bytes))


class IndexBuilder:
    """Fills a new folder. It is a context manager; leaving it without `finish` removes the folder if it has no name."""

    def __init__(
        self, folder: Path, settings: IndexSettings, segment_entries: int | None = None, name: str = ""
    ) -> None:
        """Makes the folder, or goes on with an unfinished one.

        Args:
            folder: A folder for this index alone.
            settings: The settings of the index.
            segment_entries: Entries of a segment; None: as `entries_of_segment` says.
            name: What is built. An unfinished folder of the same name goes on after the entries that are sealed; see
                `entries`. "": nothing goes on.

        Raises:
            BadInputError: The folder is not empty, and no unfinished build of this name.
            IndexLockedError: Another process has it open.
            MismatchError: The unfinished build was for other settings.
            IndexDamagedError: Its files are damaged.
        """
        _check_name(folder, name)
        self._path = folder
        self._settings = settings
        self._segment_entries = segment_entries or entries_of_segment(settings.shape)
        self._kept = bool(name)
        self._folder = IndexFolder(folder, settings.identity, UNFINISHED)
        self._finished = False
        self._waiting: list[Columns] = []
        self._waiting_entries = 0
        try:
            self._manifest = self._sealed()
            self._segments = [Segment(folder / each, settings.shape) for each in self._manifest.segments]
            if self._manifest.hidden is not None:
                read_hidden(folder / self._manifest.hidden, self._segments)
        except BaseException:  # also an interrupt must release the lock
            self._folder.close()
            raise
        self._hidden = self._hides()
        self._last_place = int(self._segments[-1].places[-1]) if self._segments else -1

    @property
    def entries(self) -> int:
        """How many were added; after the opening, how many of an earlier build are sealed."""
        return self._waiting_entries + sum(len(one) for one in self._segments)

    def __enter__(self) -> IndexBuilder:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unlocks the folder; removes it when it was not finished and has no name."""
        self._folder.close()
        if not (self._finished or self._kept):
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
            VersionOrderError: An image of a segment that is full now came again with a version that is not higher.
            OSError: The segment could not be written.
        """
        n = len(places)
        kinds = np.full(n, Kind.SEARCHABLE, np.uint8) if kinds is None else kinds
        searchable = kinds == Kind.SEARCHABLE
        self._check(places, len(image_ids), versions, terms, codes, searchable)
        rows = np.concatenate((np.zeros(1, np.int64), np.cumsum(searchable)))
        at = 0
        while at < n:
            end = min(n, at + self._segment_entries - self._waiting_entries)
            first, last = int(rows[at]), int(rows[end])
            packed = pack_rows(np.ascontiguousarray(terms[first:last], np.uint32), self._settings.bits_per_group)
            part = slice(at, end)
            columns = Columns(
                places[part].astype(np.int64), versions[part].astype(np.uint64), kinds[part],
                IdColumn.of(image_ids[part]), packed, [codes[first:last].copy()],
            )  # fmt: skip
            self._last_place = int(places[end - 1])
            self._waiting.append(columns)
            self._waiting_entries += end - at
            if self._waiting_entries >= self._segment_entries:
                self._seal()
            at = end

    def finish(self, position: LogPosition, released: int = NO_OFFSET, pseudonyms: Pseudonyms | None = None) -> None:
        """Makes the folder an index that has applied its log up to a position. The builder cannot be used afterwards.

        Args:
            position: The last record that the entries cover.
            released: As in `TermIndex.release`.
            pseudonyms: By which entries of forgotten images are named; None: there are none.

        Raises:
            BadInputError: A place lies after the position.
            VersionOrderError: An image came again with a version that is not higher.
            OSError: The files could not be written.
        """
        if position.offset < self._last_place:
            raise BadInputError(f"place {self._last_place} lies after the position, offset {position.offset}")
        self._seal()
        key = "" if pseudonyms is None else pseudonyms.key.hex()
        write_manifest(
            self._path,
            replace(self._manifest, position=position, released=released, forget_key=key),
            self._settings.sync,
        )
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

    def _sealed(self) -> Manifest:
        """What an earlier build of the folder sealed; its other files are removed."""
        manifest = read_manifest(self._path)
        if manifest is None:
            raise IndexDamagedError(f"the manifest of the unfinished index {self._path} is missing: delete the folder")
        remove_leftovers(self._path, manifest)
        return manifest

    def _seal(self) -> None:
        """Writes what waits as a segment. It is kept once the manifest names it."""
        if not self._waiting:
            return
        columns = Columns.joined(self._waiting)
        self._waiting, self._waiting_entries = [], 0
        name, manifest = self._manifest.numbered("segment")
        write_segment(self._path / name, columns, self._settings.shape, self._settings.sync)
        segment = Segment(self._path / name, self._settings.shape)
        self._hide_older(segment, columns.ids)
        self._segments.append(segment)
        manifest = replace(manifest, segments=(*manifest.segments, name))
        former, hidden = manifest.hidden, self._hides()
        if hidden != self._hidden:
            name, manifest = manifest.numbered("hidden")
            write_hidden(self._path / name, self._segments, [one.hides for one in self._segments], self._settings.sync)
            manifest = replace(manifest, hidden=name)
        write_manifest(self._path, manifest, self._settings.sync)
        if former not in (None, manifest.hidden):
            (self._path / former).unlink()
        self._manifest, self._hidden = manifest, hidden

    def _hides(self) -> int:
        """How many entries are hidden; one that is hidden stays as it is."""
        return sum(len(one.hides) for one in self._segments)

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
        raise VersionOrderError(
            f"image {new.ids[newer]!r} has version {int(new.versions[newer])} at place {int(new.places[newer])}, "
            f"after version {int(old.versions[older])} at place {int(old.places[older])}: versions must rise",
            int(new.places[newer]),
        )
    old.hide(older, int(new.places[newer]))


def _check_name(folder: Path, name: str) -> None:
    """Makes sure that a folder is empty, or has an unfinished build of this name; notes the name in an empty one."""
    folder.mkdir(parents=True, exist_ok=True)
    made = build_name(folder)
    if name and made and not (folder / HEADER).exists():
        if made == name:
            return
        raise BadInputError(f"{folder} holds the unfinished build of {made}, not of {name}: delete it first")
    if any(each.suffix != ".tmp" for each in folder.iterdir()):
        raise BadInputError(f"{folder} is not empty: an index is built in a folder of its own")
    if name:
        write_checked(folder / _BUILD, _BUILD_FORMAT, {"name": name})


def build_name(folder: Path) -> str:
    """The name of the build that made a folder, or is to finish it; "" if it has none.

    Raises:
        IndexDamagedError: The name cannot be read.
    """
    try:
        return str(read_checked(folder / _BUILD).body["name"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError) as error:
        raise IndexDamagedError(f"{folder / _BUILD} is damaged ({error}): delete the folder and build again") from error
