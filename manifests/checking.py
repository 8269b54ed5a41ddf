"""Reading a manifest whole: is every file the one that it names, and would loading take every row?

    files     bytes, checksum, number of rows, metadata, columns
    values    each of every column; ids and embeddings as the entrance takes them; places ascend, if there are any
    rows      each image version once, versions rise, heads have rows of their own clusters and precede their members
    previous  a delta follows a manifest of the same folder, or one that is known

A row is listed once for its values, with the first column that cannot be read. Nothing is said of how rows fit together
unless every one of them could be read. A head of a delta may have its row in an earlier manifest.

Memory is bounded by what `Identities` and a batch of rows take; the spool holds one file, and some 100 bytes a row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, MismatchError
from manifests.clustered_files import ClusteredBatch, ClusteredFile, Signal
from manifests.columns import BadValueError, Found
from manifests.faults import Faults
from manifests.folder import Folder, read_manifest
from manifests.identities import Identities
from manifests.image_files import NO_PLACE, versions_of
from manifests.interface import full_disk_told
from manifests.manifest import Kind, Manifest, ManifestFile
from manifests.rows import located
from manifests.value_checks import ValueChecks

__all__ = ["ManifestReport", "check_manifest"]

_BATCH_ROWS = 1024

OnProgress = Callable[[str, int, int], None]
"""Called with a word for the step, with how much of it is done, and with how much there is."""


@dataclass(frozen=True, slots=True, eq=False)
class ManifestReport:
    """What was found."""

    manifest: Manifest
    faults: Faults
    images: int | None
    """Different ids; None: not all rows could be read."""
    clusters: int | None
    superseded: int | None
    """Rows that a later one of the same image takes the place of."""
    hashed: int
    """Rows whose terms and codes need not be made."""


def check_manifest(
    folder: Folder,
    name: str,
    signal: Signal,
    checks: ValueChecks,
    spool: Path,
    on_progress: OnProgress | None = None,
    known: Collection[str] = (),
) -> ManifestReport:
    """Reads everything once.

    Args:
        folder: Where it lies.
        name: Of the manifest, with `.json`.
        signal: What it must have been made for.
        checks: What ids and embeddings must be like.
        spool: A folder for what is needed meanwhile.
        on_progress: Is told how far it is.
        known: Ids of manifests that a delta may follow, wherever they lie.

    Raises:
        BadInputError: There is no such manifest, or it is damaged.
        UnavailableError: The folder does not answer, or the disk of the spool is full.
    """
    manifest = read_manifest(folder, name)
    with (
        full_disk_told(str(spool)),
        Identities(spool, manifest.rows, heads_elsewhere=manifest.kind is Kind.DELTA) as identities,
    ):
        reading = _Reading(folder, manifest, signal, checks, spool, identities, on_progress or (lambda *_: None))
        reading.previous(name, known)
        return reading.all()


class _Reading:
    """One pass over a manifest."""

    def __init__(
        self,
        folder: Folder,
        manifest: Manifest,
        signal: Signal,
        checks: ValueChecks,
        spool: Path,
        identities: Identities,
        tell: OnProgress,
    ) -> None:
        self._folder, self._manifest, self._signal, self._checks = folder, manifest, signal, checks
        self._spool, self._identities, self._tell = spool, identities, tell
        self._faults = Faults()
        self._noted = 0
        self._hashed = 0
        self._last_place = NO_PLACE

    def previous(self, name: str, known: Collection[str]) -> None:
        """Looks for the manifest that a delta follows."""
        wanted = self._manifest.previous
        if wanted is not None and wanted not in known and wanted not in self._ids(name):
            self._faults.add(name, None, f"it follows the manifest {wanted}, which is not in {self._folder.uri}")

    def all(self) -> ManifestReport:
        """Reads all files, then compares their rows with one another."""
        first = 0
        for listed in self._manifest.files:
            self._file(listed, first)
            first += listed.rows
        images = clusters = superseded = None
        if self._noted == self._manifest.rows:
            found = self._identities.check(lambda done, total: self._tell("heads", done, total))
            images, clusters, superseded = found.images, found.clusters, len(found.superseded)
            for problem in found.problems:
                path, row = located(self._manifest, problem.row)
                self._faults.add(path, row, problem.fault.format(other=self._place_text(problem.other, path)))
            self._faults.add_unlisted(found.problem_count - len(found.problems))
        return ManifestReport(self._manifest, self._faults, images, clusters, superseded, self._hashed)

    def _ids(self, name: str) -> Iterator[str]:
        """The ids of the other manifests; one that cannot be read is passed."""
        for other in self._folder.manifests():
            if other != name:
                try:
                    yield read_manifest(self._folder, other).id
                except BadInputError:
                    continue

    def _file(self, listed: ManifestFile, first: int) -> None:
        try:
            with self._folder.fetch(listed, self._spool) as path:
                file = ClusteredFile(path, self._signal)
                if file.rows != listed.rows:
                    raise MismatchError(f"it has {file.rows} rows, the manifest says {listed.rows}")
                for found in file.found(_BATCH_ROWS):
                    self._rows(listed.path, file, found, first)
                    self._tell("rows", first + found.rows.first + len(found), self._manifest.rows)
                self._hashed += listed.rows if file.has_terms and file.has_codes else 0
        except (BadInputError, MismatchError) as error:
            self._faults.add(listed.path, None, str(error))

    def _rows(self, path: str, file: ClusteredFile, found: Found, first: int) -> None:
        try:
            self._batch(path, file.batch(found), first)
        except BadInputError:
            for one in found.one_by_one():
                try:
                    batch = file.batch(one)
                except BadValueError as error:
                    self._faults.add(path, error.row, error.problem)
                    self._note_what_can_be(one, first)
                else:
                    self._batch(path, batch, first)

    def _batch(self, path: str, batch: ClusteredBatch, first: int) -> None:
        images = batch.images
        for name, ids in (("image_id", images.image_ids), ("head", batch.heads), ("matched", batch.matched)):
            for row, problem in self._checks.ids(ids):
                self._add(path, images.first + row, name, problem)
        for row, name, problem in self._checks.vectors(images.search, images.score):
            self._add(path, images.first + row, name, problem)
        for row, problem in self._falling_places(images.places):
            self._add(path, images.first + row, "place", problem)
        self._note(first + images.first, images.image_ids, images.versions, batch.heads)

    def _falling_places(self, places: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        if places[0] == NO_PLACE:
            return
        before = np.concatenate(([self._last_place], places[:-1]))
        for row in np.flatnonzero(places <= before).tolist():
            yield row, f"is {places[row]}, that of the row before {before[row]}"
        self._last_place = int(places[-1])

    def _note_what_can_be(self, one: Found, first: int) -> None:
        """Notes a row with a wrong value, if the wrong one is none of these."""
        try:
            ids, heads = one.texts("image_id"), one.texts("head", nullable=True)
            numbers = versions_of(one)
        except BadInputError:
            return
        self._note(first + one.rows.first, ids, numbers, heads)

    def _note(self, first: int, ids: Sequence[str], numbers: NDArray[np.int64], heads: Sequence[str | None]) -> None:
        self._identities.add(first, ids, numbers, heads)
        self._noted += len(ids)

    def _add(self, path: str, row: int, name: str, problem: str) -> None:
        self._faults.add(path, row, f"column {name} {problem}")

    def _place_text(self, row: int | None, path: str) -> str:
        """How a message about a row of a file names another one."""
        if row is None:
            return ""
        other, there = located(self._manifest, row)
        return str(there) if other == path else f"{there} of {other}"
