"""Queries a second beside exact peers on the same terms. All answers are first compared with brute force."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.bench import FEW_LONG, MANY_SHORT, Bench
from benchmarks.search.corpus import Shape
from benchmarks.search.engine import index_settings, opened
from benchmarks.search.peers import BruteForce, Hits, Peer, SparseProduct, Tantivy
from benchmarks.search.results import table
from benchmarks.search.timing import in_batches, rate
from search.index.interface import TermIndex

__all__ = ["Ours", "compare", "measure"]

BATCHES = (1, 64, 256, 1024)
EQUAL_BATCH = 64
"""The batch of the ratio: scipy's figure that others quote is at 64, and the stream searches at most 64 at once."""

_CHECKED = 32
"""Queries whose answers are compared place by place."""

_COSTS = {"ours": 1, "scipy sparse product": 2, "tantivy": 4, "numpy brute force": 64}
"""A slow peer gets this many times fewer queries."""


class Ours(Peer):
    """The term index, in process: places and overlaps, as the peers answer."""

    name = "ours"

    def __init__(self, index: TermIndex) -> None:
        """Takes an open index."""
        self._index = index

    def prepare(self, terms: NDArray[np.uint32]) -> Any:
        """The terms themselves."""
        return np.ascontiguousarray(terms)

    def search(self, prepared: Any, k: int) -> list[Hits]:
        """One call a batch."""
        found = self._index.rank(prepared, k)
        return [
            (places[:size], overlaps[:size])
            for places, overlaps, size in zip(found.places, found.overlaps, found.sizes.tolist(), strict=True)
        ]


def measure(bench: Bench) -> dict[str, Any]:
    """All peers at both shapes, k = 100 and 2,500."""
    shapes = {}
    for shape in (FEW_LONG, MANY_SHORT):
        queries = bench.corpus.queries(65_536)
        tantivy = bench.place(f"tantivy-{shape.name}")
        shapes[shape.name] = compare(bench, bench.terms(shape), shape, queries, bench.index(shape), tantivy)
    goal = shapes[FEW_LONG.name]["rates"]
    equal = str(EQUAL_BATCH)
    peers = {name: rates for name, rates in goal.items() if name != "ours"}
    return {
        "images": bench.images,
        "corpus": bench.corpus.settings.to_dict(),
        "shapes": shapes,
        "ratio_to_best_exact_peer": round(goal["ours"][equal] / max(rates[equal] for rates in peers.values()), 2),
        "ratio_best_to_best": round(
            max(goal["ours"].values()) / max(max(rates.values()) for rates in peers.values()), 2
        ),
    }


def compare(
    bench: Bench,
    terms: NDArray[np.uint32],
    shape: Shape,
    queries: NDArray[np.int64],
    index_folder: Path,
    tantivy_folder: Path,
) -> dict[str, Any]:
    """All peers on some terms, after their answers were checked; prints a table."""
    truth = BruteForce(terms, shape)
    checked = terms[queries[:_CHECKED]]
    wanted = {k: truth.search(truth.prepare(checked), k) for k in (100, 2500)}
    rates: dict[str, dict[str, float]] = {}
    deep: dict[str, float] = {}
    with opened(index_folder, index_settings(shape)) as index:
        touched = float(index.rank(terms[queries[:1024]], 100).postings.mean())
        for peer in _peers(terms, shape, index, truth, tantivy_folder):
            for k in wanted:
                _check(peer, peer.search(peer.prepare(checked), k), wanted[k])
            rates[peer.name] = _rates(bench, peer, terms, queries)
            batches = [peer.prepare(terms[rows]) for rows in in_batches(queries[:512], EQUAL_BATCH)]
            deep[peer.name] = round(
                rate(batches, EQUAL_BATCH, lambda batch, one=peer: one.search(batch, 2500), bench.seconds(3.0)), 1
            )
            del batches
    _print(f"{len(terms):,} images, {shape.name}", rates, deep, touched)
    return {"postings_per_query": round(touched), "rates": rates, "rates_k2500": deep}


def _peers(
    terms: NDArray[np.uint32], shape: Shape, index: TermIndex, truth: BruteForce, tantivy_folder: Path
) -> Iterator[Peer]:
    """One after the other, so that only one holds memory."""
    yield Ours(index)
    yield SparseProduct(terms, shape)
    yield Tantivy(terms, shape, tantivy_folder)
    yield truth


def _rates(bench: Bench, peer: Peer, terms: NDArray[np.uint32], queries: NDArray[np.int64]) -> dict[str, float]:
    few = queries[: max(BATCHES[-1], len(queries) // (16 * _COSTS[peer.name]))]
    found = {}
    for size in BATCHES:
        if size > EQUAL_BATCH and isinstance(peer, (Tantivy, BruteForce)):
            continue  # they take one query after the other: a larger batch is the same
        batches = [peer.prepare(terms[rows]) for rows in in_batches(few, size)]
        found[str(size)] = round(rate(batches, size, lambda batch: peer.search(batch, 100), bench.seconds(3.0)), 1)
    return found


def _check(peer: Peer, found: list[Hits], wanted: list[Hits]) -> None:
    for row, ((places, overlaps), (true_places, true_overlaps)) in enumerate(zip(found, wanted, strict=True)):
        if not (np.array_equal(places, true_places) and np.array_equal(overlaps, true_overlaps)):
            raise AssertionError(f"{peer.name} answers query {row} otherwise than the brute force")


def _print(what: str, rates: dict[str, dict[str, float]], deep: dict[str, float], touched: float) -> None:
    table(
        f"Queries a second, one core, {what}, top 100 ({touched:,.0f} postings a query)",
        ["", *(f"batches of {size}" for size in BATCHES), "k = 2,500, batches of 64"],
        [[name, *(found.get(str(size), "") for size in BATCHES), deep[name]] for name, found in rates.items()],
    )
