"""Builds the index of a manifest's rows: place r is row r. It goes on where an earlier process was ended, and verifies.

gen-000002.load/   the index, below the folder of the generations; finished once it has a header
load.files/        copies of files that lie elsewhere, while they are read
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.errors import BadInputError
from core.types import LogPosition
from manifests.asked import asked_manifest
from manifests.clustered_files import Signal
from manifests.folder import open_folder
from manifests.manifest import Kind, Manifest
from manifests.rows import located, read_index_rows
from search.index.builder import IndexBuilder, VersionOrderError, build_name
from search.index.errors import IndexDamagedError
from search.index.folder import HEADER
from search.index.generations import IndexGenerations
from search.index.rate_limiter import RateLimiter
from search.loading.kept_load import build_named
from search.loading.load_task import SPOOL, LoadTask, Progress
from search.loading.rows import RowMaker
from search.loading.verification import verify

__all__ = ["load"]

_AT_ONCE = 2048
"""Rows that are read and hashed at once: with embeddings of 2,000 numbers some 60 MB."""


def load(task: LoadTask, tell: Callable[[Progress], None]) -> int:
    """Builds and verifies the index; what an earlier call sealed is kept.

    Args:
        task: What is loaded.
        tell: Is told the progress.

    Returns:
        How many images can be found in it.

    Raises:
        BadInputError: The manifest, a file or a row is wrong; the message names it.
        MismatchError: The manifest or a file is not the one that was asked for, or was made for other settings.
        IndexDamagedError: The index that was built is not what it should be.
        IndexLockedError: Another process builds an index.
        UnavailableError: The folder does not answer, or the disk for copies is full.
        OSError: The disk is full.
    """
    generations, request = IndexGenerations(task.index), task.request
    with generations.loading() as folder:
        manifest = asked_manifest(open_folder(request.folder), request.manifest, Kind.SNAPSHOT, request.manifest_id)
        if (folder / HEADER).exists():
            if build_name(folder) != build_named(request):
                raise IndexDamagedError(f"{folder} was not built of {build_named(request)}")
        else:
            _build(task, manifest, folder, tell)
        tell(Progress(manifest.rows, manifest.rows, verifying=True))
        return verify(folder, task.settings, manifest.rows, seed=int(request.manifest_id[:8], 16))


def _build(task: LoadTask, manifest: Manifest, folder: Path, tell: Callable[[Progress], None]) -> None:
    maker, total = RowMaker(task.terms, task.code), manifest.rows
    pace = RateLimiter(task.rows_per_s, threading.Event())
    spool = task.index / SPOOL
    shutil.rmtree(spool, ignore_errors=True)  # a process that was killed leaves copies
    spool.mkdir()
    try:
        with IndexBuilder(folder, task.settings, task.segment_entries, build_named(task.request)) as builder:
            rows = read_index_rows(
                open_folder(task.request.folder), manifest, _signal(task), spool, _AT_ONCE, builder.entries
            )
            tell(Progress(builder.entries, total))
            for first, batch in rows:
                ids, (terms, codes) = maker.ids(batch), maker.terms_and_codes(batch)
                places = np.arange(first, first + len(ids))
                builder.add(places, ids, batch.versions.astype(np.uint64), terms, codes)
                tell(Progress(builder.entries, total))
                pace.spend(len(ids))
            # No search as of a row comes: what the rows say is decided.
            builder.finish(LogPosition(task.request.log_id, total - 1, 0, total), released=total - 1)
    except VersionOrderError as error:
        path, row = located(manifest, error.place)
        raise BadInputError(f"{path}: row {row}: {error}; places are the numbers of rows in the manifest") from error
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def _signal(task: LoadTask) -> Signal:
    identity = task.settings.identity
    return Signal(
        name=task.signal,
        search_dimension=task.terms.dimension,
        score_dimension=task.code.dimension,
        terms=identity.terms_fingerprint,
        groups=task.terms.groups,
        bits_per_group=task.terms.bits_per_group,
        code=identity.code_fingerprint,
        code_bytes=task.code.code_bytes,
    )
