"""The rows of a manifest: all of its files, one after another, from any row on."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import MismatchError
from manifests.clustered_files import ClusteredBatch, ClusteredFile, IndexBatch, Signal
from manifests.folder import Folder
from manifests.manifest import Manifest, ManifestFile

__all__ = [
    "NumberedBatch",
    "RowIdentities",
    "located",
    "read_identities",
    "read_index_rows",
    "read_rows",
    "read_stretches",
]


@dataclass(frozen=True, slots=True, eq=False)
class NumberedBatch:
    """Some rows of a manifest, which lie in one file."""

    first: int
    """The number of the first of them in the manifest."""
    file: ClusteredFile
    batch: ClusteredBatch


@dataclass(frozen=True, slots=True, eq=False)
class RowIdentities:
    """What says whether some rows of a manifest fit together with all others."""

    first: int
    """The number of the first of them in the manifest."""
    ids: list[str]
    versions: NDArray[np.int64]
    """(n,)"""
    heads: list[str | None]


def read_rows(
    folder: Folder,
    manifest: Manifest,
    signal: Signal,
    spool: Path,
    at_once: int,
    start: int = 0,
    *,
    terms: bool = True,
) -> Generator[NumberedBatch, None, None]:
    """Reads a manifest's rows from number `start` on, at most `at_once` at a time. Files before it are not opened.

    Args:
        folder: Where the files lie.
        manifest: Names them.
        signal: What they must have been made for.
        spool: A folder for copies of files that lie elsewhere.
        at_once: Rows of a batch.
        start: The first row.
        terms: Whether terms are read, of files that have them.

    Raises:
        BadInputError: A value is wrong; the message names file, row and column.
        MismatchError: A file is not the one that the manifest names, or was made for other settings.
        UnavailableError: The folder does not answer, or the disk of the spool is full.
    """
    for first, file in _files(folder, manifest, signal, spool, start):
        for batch in file.batches(at_once, max(0, start - first), terms=terms):
            yield NumberedBatch(first + batch.images.first, file, batch)


def read_stretches(
    folder: Folder,
    manifest: Manifest,
    signal: Signal,
    spool: Path,
    firsts: Sequence[int],
    length: int,
) -> Iterator[NumberedBatch]:
    """Some rows of a manifest: at most `length` from each of some numbers on, ascending, to the end of the file.

    Files without any are not opened. Other arguments and errors as `read_rows`.
    """
    end = 0
    for listed in manifest.files:
        first, end = end, end + listed.rows
        here = [each - first for each in firsts if first <= each < end]
        if not here:
            continue
        with _opened(folder, listed, signal, spool) as file:
            for start in here:
                for batch in islice(file.batches(length, start, terms=False), 1):
                    yield NumberedBatch(first + batch.images.first, file, batch)


def read_index_rows(
    folder: Folder, manifest: Manifest, signal: Signal, spool: Path, at_once: int, start: int = 0
) -> Iterator[tuple[int, IndexBatch]]:
    """As `read_rows`, of what an index needs; with each batch the number of its first row in the manifest."""
    for first, file in _files(folder, manifest, signal, spool, start):
        for batch in file.index_batches(at_once, max(0, start - first)):
            yield first + batch.rows.first, batch


def read_identities(
    folder: Folder, manifest: Manifest, signal: Signal, spool: Path, at_once: int
) -> Iterator[RowIdentities]:
    """Reads ids, versions and heads of all rows, at most `at_once` at a time. Arguments and errors as `read_rows`."""
    for first, file in _files(folder, manifest, signal, spool):
        for in_file, ids, versions, heads in file.identities(at_once):
            yield RowIdentities(first + in_file, ids, versions, heads)


def located(manifest: Manifest, row: int) -> tuple[str, int]:
    """The path of the file that has a row of the manifest, and the number of the row in it."""
    first = 0
    for listed in manifest.files:
        if row < first + listed.rows:
            return listed.path, row - first
        first += listed.rows
    raise IndexError(f"the manifest has {first} rows, and not row {row}")


def _files(
    folder: Folder, manifest: Manifest, signal: Signal, spool: Path, start: int = 0
) -> Iterator[tuple[int, ClusteredFile]]:
    """Each file with rows from number `start` on, open, and the number of its first row."""
    first = 0
    for listed in manifest.files:
        if first + listed.rows > start:
            with _opened(folder, listed, signal, spool) as file:
                yield first, file
        first += listed.rows


@contextmanager
def _opened(folder: Folder, listed: ManifestFile, signal: Signal, spool: Path) -> Iterator[ClusteredFile]:
    with folder.fetch(listed, spool) as path:
        file = ClusteredFile(path, signal)
        if file.rows != listed.rows:
            raise MismatchError(f"{path} has {file.rows} rows, the manifest says {listed.rows}")
        yield file
