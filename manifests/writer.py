"""Writing a manifest: its Parquet files one after another, and at the very end the manifest that names them.

The files are `data/NAME-000000.parquet` and so on. Until the manifest is written nobody knows of them, so a run that
ends early leaves nothing that counts; the next one of the same name replaces its files.

Embeddings, terms and codes are written as they are, other columns with zstd. Compressed embeddings of the sample are
24 % smaller, and take 40 to 70 % longer to read.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import BadInputError, UnavailableError
from manifests.clustered_files import ClusteredBatch
from manifests.folder import MANIFESTS, Folder
from manifests.image_files import NO_PLACE
from manifests.manifest import SUFFIX, Kind, Manifest, ManifestFile
from manifests.metadata import FileMetadata

__all__ = ["FileSizes", "ManifestWriter", "check_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_AS_THEY_ARE = ("search", "score", "terms", "code", "founding_code")
"""Columns that hardly shrink."""


@dataclass(frozen=True, slots=True)
class FileSizes:
    """How many rows lie together."""

    rows_per_file: int = 131_072
    """Some 500 MB of the sample's embeddings: what is fetched and checked at once."""
    rows_per_group: int = 4096
    """Some 17 MB: what is read at once, and read again after an interruption."""


def check_name(name: str) -> None:
    """Raises `BadInputError` unless a manifest may have this name, which is without its ending."""
    if not _NAME.fullmatch(name) or name.endswith(SUFFIX):
        raise BadInputError(
            f"{name!r} is no name of a manifest: letters, digits, `-`, `_` and `.`, at most 100, without {SUFFIX}"
        )


class ManifestWriter:
    """Takes rows in their order. Use it as a context manager: without `finish`, its files are removed at the end."""

    def __init__(
        self,
        folder: Folder,
        name: str,
        metadata: FileMetadata,
        kind: Kind = Kind.SNAPSHOT,
        previous: str | None = None,
        sizes: FileSizes | None = None,
    ) -> None:
        """Writes nothing yet.

        Args:
            folder: Where to.
            name: Of the manifest, without `.json`.
            metadata: Of every file.
            kind: What the manifest is for.
            previous: The id of the manifest before a delta.
            sizes: Of files and row groups.

        Raises:
            BadInputError: The name cannot be used, or there is such a manifest already.
            UnavailableError: The folder does not answer.
        """
        check_name(name)
        if _is_taken(folder, name):
            raise BadInputError(f"{folder.uri} has a manifest {name} already: give another name")
        self._folder, self._name, self._metadata = folder, name, metadata
        self._kind, self._previous, self._sizes = kind, previous, sizes or FileSizes()
        self._schema: Any = None
        self._waiting: list[Any] = []
        self._waiting_rows = 0
        self._files: list[ManifestFile] = []
        self._open: _OpenFile | None = None
        self._finished = False

    def __enter__(self) -> ManifestWriter:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes what was written, unless `finish` was called."""
        if self._finished:
            return
        try:
            if self._open is not None:
                self._open.stack.__exit__(kind, error, trace)
        finally:
            for file in self._files:
                with suppress(UnavailableError):
                    self._folder.remove(file.path)

    def add(self, batch: ClusteredBatch) -> None:
        """Takes n rows. Those of all batches have the same columns, and embeddings of the same types.

        Raises:
            BadInputError: They have others.
            UnavailableError: The folder does not answer, or a disk is full.
        """
        rows = _record_batch(batch, with_founding=bool(self._metadata.code))
        if self._schema is None:
            self._schema = rows.schema.with_metadata(self._metadata.encoded())
        elif not rows.schema.equals(self._schema):
            raise BadInputError(f"these rows have the columns {rows.schema}, those before them {self._schema}")
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        while self._waiting_rows >= self._sizes.rows_per_group:
            self._write_group(self._sizes.rows_per_group)

    def finish(self) -> Manifest:
        """Writes the last rows, then the manifest.

        Raises:
            UnavailableError: The folder does not answer, or a disk is full.
        """
        while self._waiting_rows:
            self._write_group(self._waiting_rows)
        self._close_file()
        manifest = Manifest(self._kind, tuple(self._files), self._previous)
        with self._folder.put(f"{MANIFESTS}/{self._name}{SUFFIX}") as draft:
            draft.write_bytes(manifest.encoded())
        self._finished = True
        return manifest

    def _write_group(self, rows: int) -> None:
        """Writes the first rows that wait, fewer if the file has room for fewer."""
        if self._open is None:
            self._open = _OpenFile(self._folder, f"data/{self._name}-{len(self._files):06d}.parquet", self._schema)
        rows = min(rows, self._sizes.rows_per_file - self._open.rows)
        waiting = pa.Table.from_batches(self._waiting)
        self._open.write(waiting.slice(0, rows))
        self._waiting = waiting.slice(rows).to_batches()
        self._waiting_rows -= rows
        if self._open.rows >= self._sizes.rows_per_file:
            self._close_file()

    def _close_file(self) -> None:
        if self._open is not None:
            self._files.append(self._open.close())
            self._open = None


class _OpenFile:
    """The file that is being written."""

    def __init__(self, folder: Folder, path: str, schema: Any) -> None:
        self.stack = ExitStack()
        self.rows = 0
        self._path = path
        self._draft: Path = self.stack.enter_context(folder.put(path))
        self._writer = self.stack.enter_context(
            pq.ParquetWriter(
                self._draft,
                schema,
                compression=dict.fromkeys(set(schema.names) - set(_AS_THEY_ARE), "zstd"),
                use_dictionary=["head", "cause", "matched"],
                write_statistics=False,
            )
        )

    def write(self, rows: Any) -> None:
        """One row group."""
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self.rows += rows.num_rows

    def close(self) -> ManifestFile:
        """Puts the file in its place."""
        self._writer.close()
        with self._draft.open("rb") as draft:
            sha256 = hashlib.file_digest(draft, "sha256").hexdigest()
        size = self._draft.stat().st_size
        self.stack.close()
        return ManifestFile(self._path, self.rows, size, sha256)


def _is_taken(folder: Folder, name: str) -> bool:
    try:
        return f"{name}{SUFFIX}" in folder.manifests()
    except BadInputError:  # there is no folder yet
        return False


def _record_batch(batch: ClusteredBatch, *, with_founding: bool) -> Any:
    """The rows as they are written."""
    images = batch.images
    columns: dict[str, Any] = {
        "image_id": pa.array(images.image_ids, pa.string()),
        "search": _lists(images.search),
        "score": _lists(images.score),
        "image_version": pa.array(images.versions, pa.int64()),
        "created_at": pa.array(images.created_at_ms, pa.timestamp("ms", "UTC"), mask=images.created_at_ms == 0),
        "head": pa.array(batch.heads, pa.string()),
        "cause": pa.array([str(cause) for cause in batch.causes], pa.string()),
        "probability": pa.array(batch.scores, pa.float64(), mask=np.isnan(batch.scores)),
        "matched": pa.array(batch.matched, pa.string()),
    }
    if len(images.places) and images.places[0] != NO_PLACE:
        columns["place"] = pa.array(images.places, pa.int64())
    if with_founding:
        columns["founding_code"] = pa.array(batch.founding_codes, pa.binary())
    if batch.terms is not None:
        columns["terms"] = _lists(batch.terms)
    if batch.codes is not None:
        columns["code"] = pa.array([code.tobytes() for code in batch.codes], pa.binary(batch.codes.shape[1]))
    return pa.RecordBatch.from_pydict(columns)


def _lists(matrix: NDArray[Any]) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
