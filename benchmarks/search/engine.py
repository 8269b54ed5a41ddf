"""The term index to measure: built from a corpus, opened in this process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.corpus import BITS, Corpus, Shape, terms_of
from core.types import ImageId, LogPosition
from search.index.builder import SEGMENT_ENTRIES, IndexBuilder
from search.index.folder import Identity
from search.index.interface import Insert, TermIndex
from search.index.opening import open_term_index
from search.index.settings import DEFAULT_MAX_POSTINGS, IndexSettings
from search.ranking import Order, Ranking

__all__ = ["LOG_ID", "build", "fill", "fill_index", "image_id", "index_settings", "inserts", "opened"]

LOG_ID = "benchmark"
"""The log id of the corpus."""

_CHUNK = 8192


def index_settings(
    shape: Shape,
    k: int = 100,
    *,
    order: Order = Order.OVERLAP,
    sync: bool = False,
    max_postings: int = DEFAULT_MAX_POSTINGS,
) -> IndexSettings:
    """Settings of an index of terms of a shape; folders of other shapes are refused."""
    return IndexSettings(
        groups=shape.groups,
        bits_per_group=shape.bits_per_group,
        code_bytes=BITS // 8,
        identity=Identity(shape.name, "", {}),
        ranking=Ranking(k, order=order),
        sync=sync,
        max_postings=max_postings,
        background_process=True,
    )


def inserts(terms: NDArray[np.uint32], codes: NDArray[np.uint8], first: int) -> list[Insert]:
    """Records of consecutive offsets."""
    return [
        Insert(first + row, 0, image_id(first + row), 1, terms[row], codes[row].tobytes()) for row in range(len(terms))
    ]


def image_id(place: int) -> ImageId:
    """The image id of a place: eleven bytes, as short as real ids get."""
    return ImageId(f"i-{place:09d}")


def build(folder: Path, corpus: Corpus, shape: Shape) -> float:
    """Fills a folder with a corpus, unless that was done before; returns the seconds that the builder took."""
    return fill(folder, None, corpus.codes, shape)


def fill(
    folder: Path,
    terms: NDArray[np.uint32] | None,
    codes: NDArray[np.uint8],
    shape: Shape,
    segment_entries: int = SEGMENT_ENTRIES,
) -> float:
    """Fills a folder with images; terms that are not given are those of the codes. Ids and terms are not timed."""
    took = folder / "took.txt"
    if not took.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        seconds = fill_index(folder / "index", terms, codes, index_settings(shape, sync=True), segment_entries)
        took.write_text(f"{seconds:.3f}")
    return float(took.read_text())


def fill_index(
    folder: Path,
    terms: NDArray[np.uint32] | None,
    codes: NDArray[np.uint8],
    settings: IndexSettings,
    segment_entries: int = SEGMENT_ENTRIES,
) -> float:
    """Makes the index of a new folder; returns the seconds that the builder took."""
    shape = Shape(settings.groups, settings.bits_per_group)
    started = time.perf_counter()
    with IndexBuilder(folder, settings, segment_entries) as builder:
        seconds = time.perf_counter() - started
        for first in range(0, len(codes), _CHUNK):
            chunk = codes[first : first + _CHUNK]
            values = terms_of(chunk, shape) if terms is None else terms[first : first + _CHUNK]
            places = np.arange(first, first + len(chunk))
            ids = [image_id(place) for place in places.tolist()]
            versions = np.ones(len(chunk), np.uint64)
            started = time.perf_counter()
            builder.add(places, ids, versions, values, chunk)
            seconds += time.perf_counter() - started
        started = time.perf_counter()
        builder.finish(LogPosition(LOG_ID, len(codes) - 1, 0))
        return seconds + time.perf_counter() - started


@contextmanager
def opened(folder: Path, settings: IndexSettings) -> Iterator[TermIndex]:
    """A built index, open."""
    index = open_term_index(folder / "index", settings)
    try:
        yield index
    finally:
        index.close()
