"""Making a manifest from files of another system.

    1  everything but the embeddings is read and checked, and goes into the database of `stream.bootstrap.order`
    2  the order of the rows and the head of each image are found there
    3  the files are read again, once for each layer of the order, and its rows are written

Nothing is written before all rows have an order. Embeddings are checked as they are written. After the first that is
wrong nothing more is written, what was is removed, and the rest is read to name the others. So there is a manifest, or
a list of faults.

Memory: 200 MB of the database, a batch of rows, and a row group of the file that is written. Disk: some 500 bytes a row
in the spool.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from core.notifications import LATEST_TIME_MS
from manifests.clustered_files import ClusteredBatch, Signal, causes
from manifests.columns import BadValueError, Found
from manifests.faults import Fault, Faults
from manifests.folder import Folder
from manifests.image_files import NO_PLACE, ImageBatch, versions_of
from manifests.manifest import Kind, Manifest
from manifests.metadata import FileMetadata
from manifests.value_checks import ValueChecks
from manifests.writer import ManifestWriter
from stream.bootstrap.order import Order
from stream.bootstrap.sources import KEYS, VECTORS, Columns, Raw, Source, open_source, vector_column
from stream.on_progress import OnProgress

__all__ = ["Conversion", "Converted", "FaultyRowsError", "Hashing", "convert"]

Hashing = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[np.uint32], NDArray[np.uint8]]]
"""Makes terms (n, groups) and codes (n, code bytes) of search and score embeddings (n, dimension)."""


class FaultyRowsError(BadInputError):
    """Some rows cannot be taken; nothing was written."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(f"{faults.count:,} faults in the files: nothing was written")
        self.faults: Sequence[Fault] = faults.listed
        """The first of them."""
        self.count = faults.count


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """What is made of what."""

    files: Sequence[Path]
    columns: Columns
    signal: Signal
    checks: ValueChecks
    clusters: bool = False
    """Whether the column `cluster` names clusters, and not heads."""
    hashing: Hashing | None = None
    """Makes terms and codes; None: loading makes them."""
    model: str = ""
    """Version of the model that gave the scores."""
    rule: str = ""
    """What chose the clusters, in a few words."""
    previous: str | None = None
    """The id of the manifest that a delta follows; None: it is a snapshot."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What was made."""

    manifest: Manifest
    readings: int
    """How often the embeddings were read."""


def convert(
    asked: Conversion, folder: Folder, name: str, spool: Path, on_progress: OnProgress | None = None
) -> Converted:
    """Makes a manifest.

    Args:
        asked: What is made of what.
        folder: Where to.
        name: Of the manifest, without `.json`.
        spool: A folder for what is needed meanwhile.
        on_progress: Is told how far it is.

    Raises:
        FaultyRowsError: Some rows cannot be taken; all are named.
        BadInputError: A file cannot be read, a column is missing, or there is such a manifest already.
        UnavailableError: The folder does not answer, or a disk is full.
    """
    dimensions = {"search": asked.signal.search_dimension, "score": asked.signal.score_dimension}
    sources = [open_source(path, asked.columns, dimensions) for path in asked.files]
    hashed = asked.hashing is not None
    metadata = FileMetadata(
        signal=asked.signal.name,
        terms=asked.signal.terms if hashed else "",
        code=asked.signal.code if hashed else "",
        model=asked.model,
        rule=asked.rule,
    )
    delta = asked.previous is not None
    with (
        ManifestWriter(folder, name, metadata, Kind.DELTA if delta else Kind.SNAPSHOT, asked.previous) as writer,
        Order(spool, clusters=asked.clusters, heads_elsewhere=delta) as order,
    ):
        work = _Work(asked, sources, order, writer, on_progress or (lambda *_: None))
        work.read_keys()
        work.find_order()
        readings = work.write()
        return Converted(writer.finish(), readings)


class _Work:
    """The three steps."""

    def __init__(
        self,
        asked: Conversion,
        sources: Sequence[Source],
        order: Order,
        writer: ManifestWriter,
        tell: OnProgress,
    ) -> None:
        self._asked, self._sources, self._order, self._writer, self._tell = asked, sources, order, writer, tell
        self._faults = Faults()
        self._starts: list[int] = []
        """The number of the first row of each file."""
        self._rows = 0
        self._columns = [
            vector_column("search", sources, asked.signal.search_dimension),
            vector_column("score", sources, asked.signal.score_dimension),
        ]

    def read_keys(self) -> None:
        """Notes all rows."""
        known = [source.rows for source in self._sources]
        total = None if None in known else sum(rows or 0 for rows in known)
        for source in self._sources:
            self._starts.append(self._rows)
            for raw in source.batches(KEYS):
                self._note(raw)
                self._rows += len(raw)
                self._tell("keys", self._rows, total)
        if not self._rows:
            raise BadInputError("there is no row in the files")
        self._stop_if_faulty()

    def find_order(self) -> None:
        """Looks at how rows fit together."""
        self._tell("order", 0, self._rows)
        for row, problem, other in self._order.problems():
            path, number = self._place(row)
            self._faults.add(path, number, problem.format(other=self._place_text(other, path)))
        self._stop_if_faulty()
        self._tell("order", self._rows, self._rows)

    def write(self) -> int:
        """Writes all rows; returns how often the files were read."""
        layers, done = self._order.plan(), 0
        for layer in range(layers):
            for raw, chosen, heads in self._chosen(layer):
                self._write(raw, chosen, heads)
                done += len(chosen)
                self._tell("rows", done, self._rows)
                if self._faults.full:
                    self._stop_if_faulty()
        self._stop_if_faulty()
        return layers

    def _note(self, raw: Raw) -> None:
        try:
            self._note_all(raw.typed(), self._rows)
        except BadValueError:
            for row in range(len(raw)):
                try:
                    self._note_all(raw.typed(np.array([row])), self._rows + row)
                except BadValueError as error:
                    self._faults.add(str(raw.source.path), error.row, error.problem)

    def _note_all(self, found: Found, first: int) -> None:
        ids = found.texts("image_id")
        labels = found.texts("cluster", nullable=True)
        matched = found.texts("matched", nullable=True) if found.has("matched") else []
        causes(found)
        found.scores("probability")
        for name, texts in (
            ("image_id", ids),
            ("cluster", [] if self._asked.clusters else labels),
            ("matched", matched),
        ):
            for row, problem in self._asked.checks.ids(texts):
                raise found.rows.error(row, name, problem)
        self._order.add(first, ids, versions_of(found).tolist(), _times(found).tolist(), labels)

    def _chosen(self, layer: int) -> Iterator[tuple[Raw, NDArray[np.int64], list[str | None]]]:
        """The rows of a layer, as they lie in the files, with their heads."""
        planned = self._order.layer(layer)
        row, head = next(planned, (self._rows, None))
        for source, first in zip(self._sources, self._starts, strict=True):
            if row >= self._rows:
                return
            for raw in source.batches((*KEYS, *VECTORS)):
                chosen, heads = [], []
                end = first + raw.first + len(raw)
                while row < end:
                    chosen.append(row - first - raw.first)
                    heads.append(head)
                    row, head = next(planned, (self._rows, None))
                if chosen:
                    yield raw, np.array(chosen), heads

    def _write(self, raw: Raw, chosen: NDArray[np.int64], heads: list[str | None]) -> None:
        try:
            batch = self._batch(raw.typed(chosen), heads)
        except BadValueError:
            for row in chosen.tolist():
                try:
                    self._batch(raw.typed(np.array([row])), [None])
                except BadValueError as error:
                    self._faults.add(str(raw.source.path), error.row, error.problem)
            return
        if not self._faults.count:
            self._writer.add(batch)

    def _batch(self, found: Found, heads: list[str | None]) -> ClusteredBatch:
        with np.errstate(over="ignore"):
            search, score = (found.vectors(column) for column in self._columns)
        for row, name, problem in self._asked.checks.vectors(search, score):
            raise found.rows.error(row, name, problem)
        terms = codes = None
        if self._asked.hashing is not None:
            terms, codes = self._asked.hashing(search.astype(np.float32), score.astype(np.float32))
        return ClusteredBatch(
            images=ImageBatch(
                first=0,
                image_ids=found.texts("image_id"),
                versions=versions_of(found),
                created_at_ms=_times(found),
                search=search,
                score=score,
                places=np.full(len(found), NO_PLACE),
            ),
            heads=heads,
            causes=causes(found),
            scores=found.scores("probability"),
            matched=found.texts("matched", nullable=True) if found.has("matched") else [None] * len(found),
            founding_codes=[None] * len(found),
            terms=terms,
            codes=codes,
        )

    def _place(self, row: int) -> tuple[str, int]:
        """File and row in it."""
        file = bisect_right(self._starts, row) - 1
        return str(self._sources[file].path), row - self._starts[file]

    def _place_text(self, row: int | None, path: str) -> str:
        if row is None:
            return ""
        other, number = self._place(row)
        return str(number) if other == path else f"{number} of {other}"

    def _stop_if_faulty(self) -> None:
        if self._faults.count:
            raise FaultyRowsError(self._faults)


def _times(found: Found) -> NDArray[np.int64]:
    return found.numbers("created_at", 0, LATEST_TIME_MS, ": leave a time before 1970 empty")
