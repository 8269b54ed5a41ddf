"""A wave of near-equal images in ordinary traffic: what it does to searches of ordinary images, and of its own.

The index without the wave and the one with it hold the same ordinary images, and are asked in turn, so that both see
the same load of the machine. The wave is one image with one of its terms drawn anew, which no merging of equal images
makes cheaper. Inserts of the wave flow between the ordinary searches of the second index, as they would in a stream.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.bench import MANY_SHORT, Bench
from benchmarks.search.engine import LOG_ID, fill, index_settings, inserts
from benchmarks.search.results import table
from benchmarks.search.timing import percentiles_ms
from search.index.interface import TermIndex
from search.index.opening import open_term_index
from search.index.settings import DEFAULT_MAX_POSTINGS

__all__ = ["measure", "wave_terms"]

_ROUNDS = 20
_SEARCHES = 100
"""Ordinary searches of each index in a round."""

_BATCH = 4
"""Images of the wave that are inserted after each of ten parts of a round."""

_OLDEST = 100


def wave_terms(base: NDArray[np.uint32], images: int, bits: int, random: np.random.Generator) -> NDArray[np.uint32]:
    """(images, groups) the same terms, but for one of each image that is drawn anew."""
    terms = np.tile(base, (images, 1))
    rows = np.arange(images)
    terms[rows, random.integers(0, len(base), images)] = random.integers(0, 1 << bits, images, dtype=np.uint32)
    return terms


def measure(bench: Bench) -> dict[str, Any]:
    """As many images of the wave as there are ordinary ones."""
    random, images = np.random.default_rng(bench.seed), bench.images
    ordinary = bench.terms(MANY_SHORT)
    base = random.integers(0, 1 << MANY_SHORT.bits_per_group, MANY_SHORT.groups, dtype=np.uint32)
    wave = wave_terms(base, images + _ROUNDS * 10 * _BATCH, MANY_SHORT.bits_per_group, random)
    mixed_folder = bench.place("wave")
    order = np.random.default_rng(bench.seed + 1).permutation(2 * images)
    fill(
        mixed_folder,
        np.concatenate((ordinary, wave[:images]))[order],
        np.concatenate((bench.corpus.codes, np.zeros_like(bench.corpus.codes)))[order],
        MANY_SHORT,
    )
    with ExitStack() as stack:
        indexes = [_opened(stack, folder) for folder in (bench.index(MANY_SHORT), mixed_folder)]
        queries = ordinary[random.permutation(images)[: _ROUNDS * _SEARCHES]]
        result = _alternate(indexes, queries, wave[images:], 2 * images)
        result["oldest_found"] = _finds_the_oldest(indexes[1], base, np.flatnonzero(order >= images)[:_OLDEST])
    result |= {"images": images, "wave_images": images, "max_postings": DEFAULT_MAX_POSTINGS}
    _show(result)
    return result


def _opened(stack: ExitStack, folder: Path) -> TermIndex:
    index = open_term_index(folder / "index", index_settings(MANY_SHORT))
    stack.callback(index.close)
    return index


def _alternate(
    indexes: list[TermIndex], queries: NDArray[np.uint32], wave: NDArray[np.uint32], first: int
) -> dict[str, Any]:
    """Rounds of ordinary searches without and with the wave; the wave flows between those of the second index."""
    seconds: dict[str, list[float]] = {"without": [], "with": [], "wave": []}
    truncated = {"without": 0, "with": 0}
    codes = np.zeros((_BATCH, index_settings(MANY_SHORT).code_bytes), np.uint8)
    sent = 0
    for start in range(0, len(queries), _SEARCHES):
        for name, index in zip(("without", "with"), indexes, strict=True):
            for at, query in enumerate(queries[start : start + _SEARCHES]):
                if name == "with" and at % (_SEARCHES // 10) == 0 and sent + _BATCH <= len(wave):
                    records = inserts(wave[sent : sent + _BATCH], codes, first + sent)
                    began = time.perf_counter()
                    index.insert_and_search(LOG_ID, records)
                    seconds["wave"].append((time.perf_counter() - began) / _BATCH)
                    sent += _BATCH
                began = time.perf_counter()
                found = index.rank(query[None], 100)
                seconds[name].append(time.perf_counter() - began)
                truncated[name] += bool(found.truncated[0])
    return {
        **{name: percentiles_ms(each[10:]) for name, each in seconds.items()},
        "truncated": {name: count / len(queries) for name, count in truncated.items()},
    }


def _finds_the_oldest(index: TermIndex, base: NDArray[np.uint32], oldest: NDArray[np.int64]) -> bool:
    """Whether a later image of the wave finds the oldest image of the wave."""
    places = index.rank(base[None], _OLDEST).places[0]
    return int(oldest[0]) in places.tolist()


def _show(result: dict[str, Any]) -> None:
    table(
        f"{result['wave_images']:,} near-equal images among {result['images']:,} ordinary ones, {MANY_SHORT.name}, "
        f"top 100, max_postings {result['max_postings']:,}",
        ["", "p50 ms", "p99 ms", "longest ms", "truncated"],
        [
            [label, *(result[name][key] for key in ("p50_ms", "p99_ms", "max_ms")), result["truncated"].get(name, "")]
            for label, name in (
                ("ordinary searches, no wave", "without"),
                ("ordinary searches, with the wave", "with"),
                ("one insert and search of the wave", "wave"),
            )
        ],
    )
