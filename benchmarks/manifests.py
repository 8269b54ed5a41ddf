"""Manifests of synthetic near-duplicates: what a service is loaded with in benchmarks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic import SyntheticSettings, Universe
from core.types import Cause
from manifests.clustered_files import ClusteredBatch
from manifests.folder import LocalFolder
from manifests.image_files import NO_PLACE, ImageBatch
from manifests.manifest import Kind, Manifest
from manifests.metadata import FileMetadata
from manifests.writer import ManifestWriter
from stream.bootstrap.signal import hashing, load_signal
from stream.demo.sample import SAMPLE
from stream.settings import Settings

__all__ = ["write_manifest"]

_CHUNK = 4_096
_PROBABILITY = 0.99
"""Of each row that is not its own head."""


def write_manifest(
    settings: Settings,
    folder: Path,
    name: str,
    ids: Sequence[str],
    *,
    hashed: bool,
    known: int = 0,
    previous: str | None = None,
) -> Manifest:
    """Writes a manifest of images, each in the cluster of its original, for the default signal. Uses all cores.

    Args:
        settings: Name the signal, and the sample that the images are like.
        folder: Where to.
        name: Of the manifest, without its ending.
        ids: Of all images from the first on.
        hashed: Whether the rows have terms and codes.
        known: So many of the ids are in earlier manifests: the rows of this one begin after them.
        previous: The id of the manifest before it; None: it is a snapshot.
    """
    signal, universe = load_signal(settings), _universe(settings)
    metadata = FileMetadata(
        signal.name, signal.terms if hashed else "", signal.code if hashed else "", "synthetic", "originals"
    )
    originals = universe.originals(len(ids))
    chunks = [(first, originals[first : first + _CHUNK]) for first in range(known, len(ids), _CHUNK)]
    kind = Kind.SNAPSHOT if previous is None else Kind.DELTA
    cores = os.cpu_count() or 1
    with (
        ManifestWriter(LocalFolder(folder), name, metadata, kind, previous) as writer,
        ProcessPoolExecutor(cores, get_context("spawn"), _begin, (settings, hashed)) as pool,
    ):
        waiting = 4 * cores
        for at in range(0, len(chunks), waiting):  # not all at once: what is made waits in memory
            for made in pool.map(_made, chunks[at : at + waiting]):
                writer.add(_batch(made, ids))
        return writer.finish()


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """Some images."""

    first: int
    originals: NDArray[np.int64]
    search: NDArray[np.float16]
    score: NDArray[np.float16]
    terms: NDArray[np.uint32] | None
    codes: NDArray[np.uint8] | None


class _Maker:
    """What a process makes images with."""

    def __init__(self, settings: Settings, hashed: bool) -> None:
        self._universe = _universe(settings)
        self._hashing = hashing(settings) if hashed else None

    def made(self, first: int, originals: NDArray[np.int64]) -> _Made:
        search, score = self._universe.vectors(np.arange(first, first + len(originals)), originals)
        terms, codes = None, None
        if self._hashing is not None:
            terms, codes = self._hashing(search.astype(np.float32), score.astype(np.float32))
        return _Made(first, originals, search, score, terms, codes)


_makers: list[_Maker] = []
"""That of this process."""


def _begin(settings: Settings, hashed: bool) -> None:
    _makers.append(_Maker(settings, hashed))


def _made(chunk: tuple[int, NDArray[np.int64]]) -> _Made:
    return _makers[0].made(*chunk)


def _universe(settings: Settings) -> Universe:
    _, signal = settings.signal()
    dimensions = signal.search_embedding.dimension, signal.score_embedding.dimension
    whole = Universe(settings.path(SAMPLE), SyntheticSettings())
    if dimensions == whole.dimensions:
        return whole
    return Universe(settings.path(SAMPLE), SyntheticSettings(first_numbers=dimensions))


def _batch(made: _Made, ids: Sequence[str]) -> ClusteredBatch:
    count = len(made.originals)
    numbers = range(made.first, made.first + count)
    heads = [ids[original] for original in made.originals.tolist()]
    own = [original == number for original, number in zip(made.originals.tolist(), numbers, strict=True)]
    return ClusteredBatch(
        images=ImageBatch(
            first=0,
            image_ids=[ids[number] for number in numbers],
            versions=np.ones(count, np.int64),
            created_at_ms=np.zeros(count, np.int64),
            search=made.search,
            score=made.score,
            places=np.full(count, NO_PLACE, np.int64),
        ),
        heads=list(heads),
        causes=[Cause.FOUNDED if alone else Cause.MATCHED for alone in own],
        scores=np.where(own, np.nan, _PROBABILITY),
        matched=[None if alone else head for alone, head in zip(own, heads, strict=True)],
        founding_codes=[None] * count,
        terms=made.terms,
        codes=made.codes,
    )
