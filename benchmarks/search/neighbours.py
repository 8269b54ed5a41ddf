"""FAISS on the same codes: nearest by Hamming distance, at the same or more recall of true pairs.

A true pair are two members of one cluster; recall is the share of a query's mates among its 100 results, over queries
from clusters of 2 to 100. The term index answers once by shared terms alone, once with both stages (the nearest 100 of
the first 1,000). Beside each, every other index gets the cheapest of its settings that finds no fewer (or its best
where none does). One thread each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.bench import FEW_LONG, Bench
from benchmarks.search.corpus import BITS, Corpus
from benchmarks.search.engine import index_settings, opened
from benchmarks.search.results import table
from benchmarks.search.timing import in_batches, rate
from search.ranking import Order

__all__ = ["measure", "measure_graph"]

_QUERIES = 1_000
_BATCH = 64
_K = 100
_HASHES = (2, 4, 8, 16, 24, 32, 40, 48, 56, 64)
_EFFORTS = (32, 64, 128, 256, 512, 1024)

Search = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""From the places searched for to (n, k) places found, -1 for none."""


@dataclass(frozen=True, slots=True)
class SearchMeasurement:
    """Recall and speed of one index with one setting."""

    name: str
    setting: str
    recall: float
    per_second: float


def measure(bench: Bench) -> dict[str, Any]:
    """Ours, Flat and MultiHash on the ordinary corpus, 64 groups of 16 bits; MultiHash with 64 hashes beside them."""
    return _measured(bench, {"Flat": _flat, "MultiHash": _multi_hash, "MultiHash, as many hashes": _as_many_hashes})


def measure_graph(bench: Bench) -> dict[str, Any]:
    """Ours and HNSW; a part of its own, for the graph takes many minutes to make."""
    return _measured(bench, {"HNSW": _hnsw})


def _measured(bench: Bench, kinds: dict[str, Callable[[Any, Bench], Iterator[tuple[str, Search]]]]) -> dict[str, Any]:
    import faiss

    faiss.omp_set_num_threads(1)
    queries = _queries(bench.corpus)
    ours = [_ours(bench, order, queries) for order in (Order.OVERLAP, Order.DISTANCE)]
    wanted = max(one.recall for one in ours)
    tried = {name: _tried(bench, name, settings(faiss, bench), queries, wanted) for name, settings in kinds.items()}
    alone, both = (_compared(one, tried) for one in ours)
    return {"images": bench.images, "by_shared_terms": alone, "both_stages": both}


def _ours(bench: Bench, order: Order, queries: NDArray[np.int64]) -> SearchMeasurement:
    """The term index, in one of its orders."""
    terms, codes = bench.terms(FEW_LONG), bench.corpus.codes
    name = "ours, by shared terms" if order is Order.OVERLAP else "ours, both stages"
    with opened(bench.index(FEW_LONG), index_settings(FEW_LONG, order=order)) as index:

        def search(rows: NDArray[np.int64]) -> NDArray[np.int64]:
            return _places(index.rank(terms[rows], _K, codes=codes[rows]))

        return _found(bench, name, FEW_LONG.name, search, queries)


def _tried(
    bench: Bench, name: str, settings: Iterator[tuple[str, Search]], queries: NDArray[np.int64], recall: float
) -> list[SearchMeasurement]:
    """The settings of one index, the cheapest first, up to the first one of enough recall."""
    found: list[SearchMeasurement] = []
    for setting, search in settings:
        found.append(_found(bench, f"FAISS {name}", setting, search, queries))
        if found[-1].recall >= recall:
            break
    return found


def _compared(ours: SearchMeasurement, tried: dict[str, list[SearchMeasurement]]) -> dict[str, Any]:
    """One of our orders beside the cheapest setting of each index that finds no fewer; prints a table."""
    others = [next((one for one in each if one.recall >= ours.recall), each[-1]) for each in tried.values()]
    table(
        f"{ours.name}: queries a second at no less recall of true pairs, one core, batches of {_BATCH}, top {_K}",
        ["", "setting", "recall of true pairs", "queries/s", "ours by this"],
        [
            [one.name, one.setting, f"{one.recall:.3f}", one.per_second, ours.per_second / one.per_second]
            for one in [ours, *others]
        ],
    )
    rows = {one.name: {"setting": one.setting, "recall": one.recall, "rate": one.per_second} for one in [ours, *others]}
    return {"rows": rows, "ratios": {one.name: round(ours.per_second / one.per_second, 1) for one in others}}


def _queries(corpus: Corpus) -> NDArray[np.int64]:
    sizes = corpus.sizes[corpus.clusters]
    eligible = np.flatnonzero((sizes >= 2) & (sizes <= _K))
    return np.random.default_rng(11).permutation(eligible)[:_QUERIES]


def _places(ranked: Any) -> NDArray[np.int64]:
    columns = np.arange(ranked.places.shape[1])
    return np.where(columns < ranked.sizes[:, None], ranked.places, -1)


def _recall(corpus: Corpus, search: Search, queries: NDArray[np.int64]) -> float:
    hits = np.zeros(len(queries))
    for first in range(0, len(queries), _BATCH):
        rows = queries[first : first + _BATCH]
        places = search(rows)
        mates = (places >= 0) & (corpus.clusters[places] == corpus.clusters[rows][:, None]) & (places != rows[:, None])
        hits[first : first + len(rows)] = mates.sum(axis=1)
    return float((hits / (corpus.sizes[corpus.clusters[queries]] - 1)).mean())


def _found(bench: Bench, name: str, setting: str, search: Search, queries: NDArray[np.int64]) -> SearchMeasurement:
    recall = _recall(bench.corpus, search, queries)
    per_second = rate(in_batches(queries, _BATCH), _BATCH, search, bench.seconds(6.0))
    return SearchMeasurement(name, setting, round(recall, 4), round(per_second, 1))


def _searching(index: Any, corpus: Corpus) -> Search:
    return lambda rows: index.search(corpus.codes[rows], _K)[1]


def _flat(faiss: Any, bench: Bench) -> Iterator[tuple[str, Search]]:
    index = faiss.IndexBinaryFlat(BITS)
    index.add(bench.corpus.codes)
    yield "all distances", _searching(index, bench.corpus)


def _multi_hash(faiss: Any, bench: Bench) -> Iterator[tuple[str, Search]]:
    for hashes in _HASHES:
        index = faiss.IndexBinaryMultiHash(BITS, hashes, FEW_LONG.bits_per_group)
        index.add(bench.corpus.codes)
        yield f"{hashes} hashes of {FEW_LONG.bits_per_group}", _searching(index, bench.corpus)


def _as_many_hashes(faiss: Any, bench: Bench) -> Iterator[tuple[str, Search]]:
    index = faiss.IndexBinaryMultiHash(BITS, FEW_LONG.groups, FEW_LONG.bits_per_group)
    index.add(bench.corpus.codes)
    yield f"{FEW_LONG.groups} hashes of {FEW_LONG.bits_per_group}", _searching(index, bench.corpus)


def _hnsw(faiss: Any, bench: Bench) -> Iterator[tuple[str, Search]]:
    index = hnsw_index(faiss, bench.place("hnsw"), bench.corpus)
    for effort in _EFFORTS:
        index.hnsw.efSearch = effort
        yield f"efSearch {effort}", _searching(index, bench.corpus)


def hnsw_index(faiss: Any, file: Path, corpus: Corpus) -> Any:
    """The graph, M = 16, efConstruction = 40; made once: many minutes for a million images."""
    if not file.exists():
        index = faiss.IndexBinaryHNSW(BITS, 16)
        index.hnsw.efConstruction = 40
        index.add(corpus.codes)
        file.parent.mkdir(parents=True, exist_ok=True)
        faiss.write_index_binary(index, str(file))
    return faiss.read_index_binary(str(file))
