"""One first load from its manifest to checked content. It may be ended at any row, and begun again after a kill.

    identities   all rows fit together (`storage.loading.identities`); nothing was written before that
    rows         become tables (`storage.loading.rows`), from the cursor on
    clusters     are counted from the edges, from the cursor on
    checks       exact counts, and a sample of images

The first pass is made again if it was interrupted; everything else goes on where it was.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.files import replacing
from manifests.asked import asked_manifest
from manifests.clustered_files import Signal
from manifests.folder import Folder, open_folder
from manifests.manifest import Kind, Manifest
from manifests.rows import read_rows
from manifests.value_checks import ValueChecks
from storage.loading.ahead import ahead
from storage.loading.checking import check_counts, check_sample
from storage.loading.identities import checked_identities
from storage.loading.interfaces import LoadCursor, LoadStage, LoadTarget, TakesFirstLoad
from storage.loading.kept import KeptLoad
from storage.loading.pace import Pace
from storage.loading.rows import MakeCodes, RowWriter
from storage.records import FirstLoad

__all__ = ["LoadSettings", "LoadWatch", "run_load"]

AT_ONCE = 4_096
"""Rows that are read at once."""

BYTES_AT_ONCE = 16 << 20
"""Of their vectors, as float32; fewer rows of longer vectors are read at once."""

AHEAD = 2
"""Batches that are read while one is written: Parquet takes half of the time, and most of it without Python's lock."""

_SUPERSEDED = "superseded"
_SPOOL = "spool"


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """What the images must have been made for, and how fast they are loaded."""

    signal: Signal
    make_codes: MakeCodes
    checks: ValueChecks
    """What the ids and embeddings of deltas must be like."""
    rows_per_s: float = 0.0
    """At most so many rows a second; 0: no limit."""


class LoadWatch(Protocol):
    """Who watches a load. Whatever `did` and `pause` raise ends it."""

    def did(self, doing: str, rows: int) -> None:
        """So many rows are written, and this is done at present."""
        ...

    def counted(self, rows: int, images: int, clusters: int) -> KeptLoad:
        """The manifest has so many of each: they are kept, durably."""
        ...

    def pause(self, seconds: float) -> None:
        """Waits."""
        ...

    def clock(self) -> float:
        """Seconds that only grow."""
        ...

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...


def run_load(kept: KeptLoad, store: TakesFirstLoad, settings: LoadSettings, watch: LoadWatch) -> FirstLoad:
    """Loads, from wherever it was, until the content is whole and checked.

    Raises:
        BadInputError: The manifest or a file is wrong; the message names file and row.
        MismatchError: The manifest or a file is another one, or was made for other settings.
        UnavailableError: The folder does not answer. Run it again later.
        WriteError: The disk refuses a write. Run it again later.
        OSError: The same.
        StorageError: What was written is damaged.
    """
    spool = store.load_folder / _SPOOL
    shutil.rmtree(spool, ignore_errors=True)  # of a pass that was killed: 100 bytes a row
    spool.mkdir(parents=True)
    folder = open_folder(kept.request.folder)
    manifest = asked_manifest(folder, kept.request.manifest, Kind.SNAPSHOT, kept.request.manifest_id)
    path = store.load_folder / _SUPERSEDED
    if not kept.images or not path.exists():  # removed with what was written, by an end that was not kept
        checked = checked_identities(
            folder, manifest, settings.signal, spool, lambda rows: watch.did(f"identities: row {rows:,}", 0)
        )
        with replacing(path) as draft:
            checked.superseded.tofile(draft)
        kept = watch.counted(manifest.rows, checked.images, checked.clusters)
    with closing(store.open_target()) as target:
        cursor = target.cursor()
        if cursor.stage is LoadStage.ROWS:
            writer = RowWriter(kept.started_ms, settings.make_codes, _superseded(path))
            cursor = _load_rows(folder, manifest, spool, target, writer, settings, watch)
        if cursor.stage is LoadStage.CLUSTERS:
            cursor = _make_clusters(target, cursor, kept.started_ms, watch)
        load = _finished(kept, target, watch)
        _check(target, load, cursor, watch)
    return load


def _superseded(path: Path) -> NDArray[np.int64]:
    """The rows that a later one takes the place of, without holding them in memory."""
    if not path.stat().st_size:
        return np.zeros(0, np.int64)
    found: NDArray[np.int64] = np.memmap(path, np.int64, "r")
    return found


def _load_rows(
    folder: Folder,
    manifest: Manifest,
    spool: Path,
    target: LoadTarget,
    writer: RowWriter,
    settings: LoadSettings,
    watch: LoadWatch,
) -> LoadCursor:
    pace = Pace(settings.rows_per_s)
    cursor = target.cursor()
    signal = settings.signal
    at_once = max(1, min(AT_ONCE, BYTES_AT_ONCE // (4 * (signal.search_dimension + signal.score_dimension))))
    batches = read_rows(folder, manifest, signal, spool, at_once, cursor.rows, terms=False)
    with closing(ahead(batches, AHEAD)) as read:
        for numbered in read:
            rows = writer.written(numbered, cursor.numbers)
            target.add(rows)
            cursor = replace(cursor, rows=cursor.rows + rows.rows, numbers=cursor.numbers + rows.numbers)
            if target.is_due():
                target.keep(cursor)
            watch.did(f"rows of {numbered.file.path.name}", cursor.rows)
            watch.pause(pace.pause_s(rows.rows, watch.clock()))
    cursor = replace(cursor, stage=LoadStage.CLUSTERS)
    target.keep(cursor)
    return cursor


def _make_clusters(target: LoadTarget, start: LoadCursor, founded_at_ms: int, watch: LoadWatch) -> LoadCursor:
    cursor = start
    for cursor in target.make_clusters(start, founded_at_ms):
        watch.did(f"clusters: {cursor.clusters:,}", cursor.rows)
    return cursor


def _finished(kept: KeptLoad, target: LoadTarget, watch: LoadWatch) -> FirstLoad:
    request = kept.request
    load = FirstLoad(
        manifest_id=request.manifest_id,
        folder=request.folder,
        manifest=request.manifest,
        rows=kept.rows,
        images=kept.images,
        clusters=kept.clusters,
        started_ms=kept.started_ms,
        ended_ms=watch.now_ms(),
    )
    target.finish(load)
    return load


def _check(target: LoadTarget, load: FirstLoad, cursor: LoadCursor, watch: LoadWatch) -> None:
    found = target.counts(lambda count: watch.did("checks: counts", load.rows))
    check_counts(found, load, cursor)
    with target.view() as view:
        check_sample(view, load, lambda done: watch.did(f"checks: image {done:,} of a sample", load.rows))
