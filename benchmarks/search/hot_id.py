"""One id with ever more versions: what an insert of the next version costs, and one of another id."""

from __future__ import annotations

import shutil
import time
from typing import Any

import numpy as np

from benchmarks.search.bench import FEW_LONG, Bench
from benchmarks.search.engine import LOG_ID, index_settings, opened
from benchmarks.search.results import table
from benchmarks.search.timing import percentiles_ms
from core.types import ImageId, LogPosition
from search.index.builder import IndexBuilder
from search.index.interface import Insert, TermIndex

__all__ = ["measure"]

_CHUNK = 65_536
_MEASURED = 500


def measure(bench: Bench) -> dict[str, Any]:
    """The index of one id, at a hundredth, a tenth and all of the images."""
    rows = {f"{versions:,}": _measured(bench, versions) for versions in _sizes(bench.images)}
    table(
        "One insert-and-search after so many versions of one id",
        ["versions", "the same id, p50 ms", "p99 ms", "another id, p50 ms", "p99 ms"],
        [
            [name, *(row[kind][key] for kind in ("hot", "cold") for key in ("p50_ms", "p99_ms"))]
            for name, row in rows.items()
        ],
    )
    return {"rows": rows}


def _sizes(images: int) -> list[int]:
    return [max(1, images // 100), max(1, images // 10), images]


def _measured(bench: Bench, versions: int) -> dict[str, dict[str, float]]:
    folder = bench.folder / "hot-id"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings, random = index_settings(FEW_LONG, sync=False), np.random.default_rng(bench.seed)
    with IndexBuilder(folder / "index", settings) as builder:
        for first in range(0, versions, _CHUNK):
            places = np.arange(first, min(first + _CHUNK, versions))
            terms = random.integers(0, 1 << FEW_LONG.bits_per_group, (len(places), FEW_LONG.groups), dtype=np.uint32)
            codes = np.zeros((len(places), settings.code_bytes), np.uint8)
            builder.add(places, [ImageId("hot")] * len(places), (places + 1).astype(np.uint64), terms, codes)
        builder.finish(LogPosition(LOG_ID, versions - 1, 0))
    try:
        with opened(folder, settings) as index:
            return _inserts(index, versions, random)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _inserts(index: TermIndex, first: int, random: np.random.Generator) -> dict[str, dict[str, float]]:
    """Inserts of the hot id and of others, in turn."""
    waits: dict[str, list[float]] = {"hot": [], "cold": []}
    terms = random.integers(0, 1 << FEW_LONG.bits_per_group, (2 * _MEASURED, FEW_LONG.groups), dtype=np.uint32)
    code = bytes(index_settings(FEW_LONG).code_bytes)
    for row in range(2 * _MEASURED):
        offset, hot = first + row, row % 2 == 0
        image_id = ImageId("hot" if hot else f"cold-{offset}")
        record = Insert(offset, offset, image_id, offset + 1, terms[row], code)
        started = time.perf_counter()
        index.insert_and_search(LOG_ID, [record])
        waits["hot" if hot else "cold"].append(time.perf_counter() - started)
    return {kind: percentiles_ms(each[10:]) for kind, each in waits.items()}
