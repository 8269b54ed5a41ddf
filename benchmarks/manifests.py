"""Manifests of synthetic near-duplicates: what a service is loaded with in benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.synthetic import Universe
from core.types import Cause
from manifests.clustered_files import ClusteredBatch
from manifests.folder import LocalFolder
from manifests.image_files import NO_PLACE, ImageBatch
from manifests.manifest import Kind, Manifest
from manifests.metadata import FileMetadata
from manifests.writer import ManifestWriter
from stream.bootstrap.signal import hashing, load_signal
from stream.settings import Settings

__all__ = ["write_manifest"]

_CHUNK = 4_096
_PROBABILITY = 0.99
"""Of each row that is not its own head."""


def write_manifest(
    settings: Settings,
    universe: Universe,
    folder: Path,
    name: str,
    ids: Sequence[str],
    *,
    hashed: bool,
    known: int = 0,
    previous: str | None = None,
) -> Manifest:
    """Writes a manifest of images, each in the cluster of its original, for the default signal.

    Args:
        settings: Name the signal.
        universe: The images come from it, by their number.
        folder: Where to.
        name: Of the manifest, without its ending.
        ids: Of all images of the universe from the first on.
        hashed: Whether the rows have terms and codes.
        known: So many of the ids are in earlier manifests: the rows of this one begin after them.
        previous: The id of the manifest before it; None: it is a snapshot.
    """
    signal, make = load_signal(settings), hashing(settings)
    metadata = FileMetadata(
        signal.name, signal.terms if hashed else "", signal.code if hashed else "", "synthetic", "originals"
    )
    originals = universe.originals(len(ids))
    kind = Kind.SNAPSHOT if previous is None else Kind.DELTA
    with ManifestWriter(LocalFolder(folder), name, metadata, kind, previous) as writer:
        for first in range(known, len(ids), _CHUNK):
            rows = np.arange(first, min(first + _CHUNK, len(ids)))
            search, score = universe.vectors(rows, originals[rows])
            heads = [ids[original] for original in originals[rows].tolist()]
            own = originals[rows] == rows
            terms, codes = make(search.astype(np.float32), score.astype(np.float32)) if hashed else (None, None)
            count = len(rows)
            writer.add(
                ClusteredBatch(
                    images=ImageBatch(
                        first=0,
                        image_ids=[ids[row] for row in rows.tolist()],
                        versions=np.ones(count, np.int64),
                        created_at_ms=np.zeros(count, np.int64),
                        search=search,
                        score=score,
                        places=np.full(count, NO_PLACE, np.int64),
                    ),
                    heads=list(heads),
                    causes=[Cause.FOUNDED if alone else Cause.MATCHED for alone in own.tolist()],
                    scores=np.where(own, np.nan, _PROBABILITY),
                    matched=[None if alone else head for alone, head in zip(own.tolist(), heads, strict=True)],
                    founding_codes=[None] * count,
                    terms=terms,
                    codes=codes,
                )
            )
        return writer.finish()
