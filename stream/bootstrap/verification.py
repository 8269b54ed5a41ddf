"""Is every image of a manifest in the running service, as its rows say? Asked of both servers after a load.

    ids          rows fit together; how many images and clusters they are
    totals       what the servers say that they loaded
    rows         version, place and head of every image in storage; each difference is explained, or wrong
    embeddings   those of a sample of rows, or of all, beside the stored ones
    index        what storage holds beside what searches find: `stream.index_comparison`

The service goes on meanwhile. Storage is asked for many images at once, so memory is bounded.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, MismatchError, UnavailableError
from core.first_loads import LoadReport, LoadState
from core.types import ImageId
from manifests.clustered_files import Signal
from manifests.faults import Faults
from manifests.folder import Folder
from manifests.identities import Checked, Identities
from manifests.interface import full_disk_told
from manifests.manifest import Kind, Manifest
from manifests.rows import NumberedBatch, located, read_identities, read_rows, read_stretches
from storage.forgotten import ErasureCounts, ForgottenImage
from storage.limits import MAX_LOOK_UP
from storage.loading.delta_report import DeltaReport
from storage.records import ImageRecord
from storage.selecting import SelectedImage
from stream.bootstrap.row_differences import (
    Explained,
    LoadedCounts,
    ManifestRow,
    RowDifference,
    of_embeddings,
    of_head,
    of_membership,
    of_tombstone,
)
from stream.index_comparison import Compared, IndexReader, Side, StorageReader, compare_with_index
from stream.on_progress import OnProgress

__all__ = [
    "DEFAULT_SAMPLE",
    "STEPS",
    "IndexOfLoad",
    "ManifestSource",
    "StorageOfLoad",
    "Totals",
    "VerifiedManifest",
    "verify_manifest",
]

DEFAULT_SAMPLE = 10_000
"""Rows whose embeddings are compared, and images that are compared with the index."""

MOST_EXAMPLES = 5
"""Of each kind of explained differences."""

_STRETCHES = 128
"""Places of a manifest that a sample is taken from, at most: each is a row group to be read."""

_STRETCH_ROWS = 64
"""Rows of one of them, at least: what one call asks for."""

STEPS = {
    "ids": "reading ids",
    "rows": "comparing rows",
    "embeddings": "comparing embeddings",
    **{f"index: {side}": f"comparing {side}" for side in Side},
}
"""What a reader is shown of each step."""


class StorageOfLoad(StorageReader, Protocol):
    """What is asked of storage: `storage.serving.client.StorageClient` has it."""

    def named(self, ids: Collection[ImageId], *, vectors: bool = False, triggers: bool = False) -> list[SelectedImage]:
        """The known images among some."""
        ...

    def forgotten(self, ids: Sequence[ImageId] = ()) -> tuple[list[ForgottenImage], ErasureCounts]:
        """Those of the images that were forgotten."""
        ...

    def load_status(self) -> LoadReport | None:
        """The first load."""
        ...

    def deltas(self, manifest_id: str) -> Sequence[DeltaReport]:
        """How far a delta is; empty: nobody has asked for it."""
        ...


class IndexOfLoad(IndexReader, Protocol):
    """What is asked of the index: `search.serving.client.SearchClient` has it."""

    def load_status(self) -> LoadReport | None:
        """The first load."""
        ...


class ManifestSource(NamedTuple):
    """A manifest, and what is needed to read it."""

    folder: Folder
    """Where it lies."""
    manifest: Manifest
    """A snapshot, or a delta."""
    signal: Signal
    """What it was made for."""
    spool: Path
    """A folder for what is needed meanwhile: some 100 bytes a row, and copies of files that lie elsewhere."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What one of them says that was loaded."""

    rows: int
    images: int
    clusters: int | None
    """None: it knows none."""


@dataclass(slots=True)
class VerifiedManifest:
    """What was found."""

    manifest: Manifest
    totals: dict[str, Totals] = field(default_factory=dict)
    """Of the `manifest`, and of the servers that know its load: `storage`, `search`."""
    superseded: int = 0
    """Rows that a later one of the same image takes the place of; nothing is asked about them."""
    rows: int = 0
    """Rows that were compared with storage."""
    embeddings: int = 0
    """Rows whose embeddings were compared."""
    explained: Counter[Explained] = field(default_factory=Counter)
    examples: dict[Explained, list[tuple[str, RowDifference]]] = field(default_factory=dict)
    """Images, the first ones of each kind."""
    faults: Faults = field(default_factory=Faults)
    """What should not be; totals have no file."""
    index: Compared | None = None
    """The last report of the comparison with the index."""

    @property
    def problems(self) -> int:
        """How many things were found that should not be."""
        return self.faults.count + (len(self.index.problems) if self.index else 0)


def verify_manifest(
    source: ManifestSource,
    storage: StorageOfLoad,
    index: IndexOfLoad,
    sample: int | None = DEFAULT_SAMPLE,
    on_progress: OnProgress | None = None,
) -> VerifiedManifest:
    """Compares a manifest that was loaded with the running service.

    Args:
        source: The manifest.
        storage: Is asked for each image.
        index: Is asked for a sample.
        sample: How many rows have their embeddings compared, about, and how many images are compared with the index;
            None: all.
        on_progress: Is told how far it is; the steps are those of `STEPS`.

    Raises:
        BadInputError: The rows do not fit together, or a value is wrong: `neardup bootstrap check` says more.
        MismatchError: The service did not begin with this snapshot, or a file is not the one that the manifest names.
        UnavailableError: A server or the folder does not answer, or the load is under way.
    """
    verification = _Verification(source, storage, on_progress or (lambda *_: None))
    with full_disk_told(str(source.spool)):
        verification.totals(index)
        verification.rows()
        verification.embeddings(sample)
    verification.index(index, sample)
    return verification.found


class _Verification:
    """One run."""

    def __init__(self, source: ManifestSource, storage: StorageOfLoad, tell: OnProgress) -> None:
        self._source, self._manifest = source, source.manifest
        self._storage, self._tell = storage, tell
        self.found = VerifiedManifest(source.manifest)
        self._superseded: NDArray[np.int64] = np.empty(0, np.int64)
        self._loaded: LoadedCounts | None = None
        """The first load; None: the manifest is a delta."""
        self._arrived_ms: int | None = None
        """When all rows of the delta arrived; None: storage has no delta of this manifest."""

    def totals(self, index: IndexOfLoad) -> None:
        """Counts the manifest, and compares with what the servers say of its load."""
        reports = {"storage": self._storage.load_status(), "search": index.load_status()}
        known = {name: each for name, each in reports.items() if each and each.request.manifest_id == self._manifest.id}
        if self._manifest.kind is Kind.SNAPSHOT:
            live = _live(reports["storage"] if "storage" in known else None, self._storage.describe().load)
            self._loaded = LoadedCounts(self._manifest.rows, live.images)
        else:
            self._arrived_ms = next((each.load.started_ms for each in self._storage.deltas(self._manifest.id)), None)
        checked = self._checked()
        self._superseded = checked.superseded
        self.found.superseded = len(checked.superseded)
        rows = self._manifest.rows
        delta = self._manifest.kind is Kind.DELTA
        wanted = Totals(rows, checked.images, None if delta else checked.clusters)
        self.found.totals["manifest"] = wanted
        for name, report in known.items():
            clusters = None if delta or name == "search" else report.clusters
            said = Totals(report.rows_total, report.images, clusters)
            self.found.totals[name] = said
            for what in ("rows", "images", "clusters"):
                mine, theirs = getattr(wanted, what), getattr(said, what)
                if theirs is not None and mine is not None and mine != theirs:
                    self.found.faults.add(name, None, f"it has loaded {theirs:,} {what}, the manifest has {mine:,}")

    def _checked(self) -> Checked:
        elsewhere = self._manifest.kind is Kind.DELTA
        with Identities(self._source.spool, self._manifest.rows, heads_elsewhere=elsewhere) as identities:
            for rows in read_identities(*self._source, MAX_LOOK_UP):
                identities.add(rows.first, rows.ids, rows.versions, rows.heads)
                self._tell("ids", rows.first + len(rows.ids), self._manifest.rows)
            checked = identities.check()
        if checked.problem_count:
            raise BadInputError(
                f"{checked.problem_count:,} rows of the manifest do not fit together: see `neardup bootstrap check`"
            )
        return checked

    def rows(self) -> None:
        """Compares version, place and head of every image."""
        for part in read_identities(*self._source, MAX_LOOK_UP):
            rows = self._last_rows(part.first, part.ids, part.versions.tolist(), part.heads)
            self._compare(rows)
            self.found.rows += len(rows)
            self._tell("rows", part.first + len(part.ids), self._manifest.rows)

    def _last_rows(
        self, first: int, ids: Sequence[str], versions: Sequence[int], heads: Sequence[str | None]
    ) -> list[ManifestRow]:
        """Those that no later row of the same image takes the place of."""
        low, high = np.searchsorted(self._superseded, [first, first + len(ids)])
        passed = set(self._superseded[low:high].tolist())
        each = enumerate(zip(ids, versions, heads, strict=True), first)
        return [
            ManifestRow(number, image_id, version, head)
            for number, (image_id, version, head) in each
            if number not in passed and head is not None
        ]

    def _compare(self, rows: Sequence[ManifestRow]) -> None:
        answer = self._storage.look_up([ImageId(row.image_id) for row in rows])
        moved: dict[str, ManifestRow] = {}
        gone: dict[str, ManifestRow] = {}
        for row in rows:
            member = answer.memberships.get(ImageId(row.image_id))
            difference = of_membership(row, member, self._loaded)
            if difference is None:
                continue
            if member is None and ImageId(row.image_id) in answer.tombstones:
                gone[row.image_id] = row
            elif member is not None and member.version == row.version and member.head != row.head:
                moved[row.image_id] = row
            else:
                self._differs(row, difference)
        for found in self._storage.named([ImageId(each) for each in moved], triggers=True) if moved else ():
            row = moved.pop(found.image.image_id)
            if (found.image.version, found.image.head) != (row.version, row.head):
                self._differs(row, self._why_elsewhere(row, found))
        for row in moved.values():  # deleted since they were looked up
            gone[row.image_id] = row
        self._tell_gone(gone)

    def _why_elsewhere(self, row: ManifestRow, found: SelectedImage) -> RowDifference:
        image = found.image
        if image.version == row.version:
            return of_head(row, found, self._loaded)
        text = f"it has version {row.version}, and storage has version {image.version}"
        return RowDifference(text, Explained.HIGHER_VERSION if image.version > row.version else None)

    def _tell_gone(self, gone: dict[str, ManifestRow]) -> None:
        if not gone:
            return
        ids = [ImageId(each) for each in gone]
        answer = self._storage.look_up(ids)
        forgotten = {each.image_id for each in self._storage.forgotten(ids)[0]}
        for image_id, row in gone.items():
            tombstone = answer.tombstones.get(ImageId(image_id))
            if tombstone is not None:
                self._differs(row, of_tombstone(row, tombstone, image_id in forgotten))
            elif (member := answer.memberships.get(ImageId(image_id))) is not None:  # it came back meanwhile
                difference = of_membership(row, member, self._loaded)
                if difference is not None:
                    self._differs(row, difference)
            else:
                self._differs(row, RowDifference("storage does not have it"))

    def embeddings(self, sample: int | None) -> None:
        """Compares the embeddings of rows with those that storage keeps."""
        total = self._manifest.rows if sample is None else min(sample, self._manifest.rows)
        passed = 0
        for part in self._batches(sample):
            images = part.batch.images
            rows = self._last_rows(part.first, images.image_ids, images.versions.tolist(), part.batch.heads)
            ids = [ImageId(row.image_id) for row in rows]
            found = self._storage.named(ids, vectors=True)
            by_id = {each.image.image_id: each for each in found}
            for row in rows:
                at, stored = row.row - part.first, by_id.get(ImageId(row.image_id))
                if stored is None or stored.image.version != row.version:
                    continue  # `rows` has told it, or it went since
                self.found.embeddings += 1
                vectors = images.search[at].tobytes(), images.score[at].tobytes()
                difference = of_embeddings(row, stored, *vectors, by_row=self._by_row(stored.image))
                if difference is not None:
                    self._differs(row, difference)
            passed += len(images.image_ids)
            self._tell("embeddings", min(passed, total), total)

    def _by_row(self, image: ImageRecord) -> bool:
        """Whether the version came by the manifest: whatever moves it later, it keeps its time of arrival."""
        return self._loaded is not None or image.arrived_at_ms == self._arrived_ms

    def _batches(self, sample: int | None) -> Iterator[NumberedBatch]:
        rows = self._manifest.rows
        if sample is None or sample >= rows:
            return read_rows(*self._source, _STRETCH_ROWS, terms=False)
        length = max(_STRETCH_ROWS, -(-sample // _STRETCHES))
        stretches = range(0, rows, length)
        chosen = random.Random(self._manifest.id).sample(stretches, -(-sample // length))
        return read_stretches(*self._source, sorted(chosen), length)

    def index(self, index: IndexOfLoad, sample: int | None) -> None:
        """Compares what storage holds with what the index has."""
        for report in compare_with_index(self._storage, index, sample):
            self.found.index = report
            self._tell(f"index: {report.side}", report.looked_at, report.total)

    def _differs(self, row: ManifestRow, difference: RowDifference) -> None:
        kind = difference.explained
        if kind is None:
            path, number = located(self._manifest, row.row)
            self.found.faults.add(path, number, f"image {row.image_id!r}: {difference.text}")
            return
        self.found.explained[kind] += 1
        examples = self.found.examples.setdefault(kind, [])
        if len(examples) < MOST_EXAMPLES:
            examples.append((row.image_id, difference))


def _live(report: LoadReport | None, load: str) -> LoadReport:
    """A first load, which must be live."""
    if report is None:
        began = f"began with manifest {load}" if load else "began empty"
        raise MismatchError(f"the service has not loaded this manifest: storage {began}")
    if report.state is not LoadState.LIVE:
        raise UnavailableError(f"the load is {report.state}, not live: see `neardup bootstrap status`")
    return report
