"""The time of a search by lists and postings, and of a candidate: the constants of `search.tuning.cost`.

Four shapes of terms over the ordinary corpus, which differ in how many lists a search reads and how long these are. The
time of a search is fitted as `list_us` for each group and `posting_us` for each posting, by relative errors, so that
short searches count as much as long ones. What a candidate costs beside is what the answer with ids and codes takes
longer than the bare one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from benchmarks.search.bench import FEW_LONG, MANY_SHORT, Bench
from benchmarks.search.corpus import Shape, terms_of
from benchmarks.search.engine import index_settings, opened
from benchmarks.search.results import table
from benchmarks.search.timing import in_batches, rate
from search.index.interface import TermQuery

__all__ = ["fit", "measure"]

_SHAPES = (FEW_LONG, MANY_SHORT, Shape(32, 12), Shape(192, 16))
_BATCH, _K = 64, 100
_QUERIES = 8_192


def measure(bench: Bench) -> dict[str, Any]:
    """Each shape, top 100, batches of 64, on one core."""
    rows = [{"shape": shape.name, "groups": shape.groups, **_measured(bench, shape)} for shape in _SHAPES]
    work = np.array([[row["groups"], row["postings"]] for row in rows], np.float64)
    times = np.array([row["search_us"] for row in rows])
    list_us, posting_us = fit(work, times)
    for row, fitted in zip(rows, (work @ (list_us, posting_us)).tolist(), strict=True):
        row["fitted_us"] = round(fitted, 1)
    lookup_us = float(np.mean([row["candidate_us"] for row in rows]))
    table(
        f"Time of a search, {bench.images:,} images, top {_K}, batches of {_BATCH}",
        ["", "postings", "us", "fitted us", "us a candidate for id and code"],
        [[row["shape"], row["postings"], row["search_us"], row["fitted_us"], row["candidate_us"]] for row in rows],
    )
    print(f"{list_us:.3f} us a list, {posting_us:.4f} us a posting, {lookup_us:.3f} us a candidate")
    constants = {"list_us": round(list_us, 3), "posting_us": round(posting_us, 4), "lookup_us": round(lookup_us, 3)}
    return {"images": bench.images, "shapes": rows, **constants}


def fit(work: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[float, float]:
    """What each kind of work costs, none less than nothing, so that relative errors are least.

    Args:
        work: (n, 2) lists and postings.
        times: (n,)
    """
    (one, other), _ = nnls(work / times[:, np.newaxis], np.ones(len(times)))
    return float(one), float(other)


def _measured(bench: Bench, shape: Shape) -> dict[str, Any]:
    queries = terms_of(bench.corpus.codes[bench.corpus.queries(_QUERIES)], shape)
    batches = [queries[rows] for rows in in_batches(np.arange(len(queries)), _BATCH)]
    with opened(bench.index(shape), index_settings(shape, _K)) as index:
        postings = float(index.rank(queries[:1024], _K).postings.mean())
        bare = rate(batches, _BATCH, lambda batch: index.rank(batch, _K), bench.seconds(6.0))
        asked = [[TermQuery(terms, _K) for terms in batch] for batch in batches]
        whole = rate(asked, _BATCH, index.search, bench.seconds(6.0))
    return {
        "postings": round(postings),
        "search_us": round(1e6 / bare, 1),
        "candidate_us": round(max(0.0, 1e6 / whole - 1e6 / bare) / _K, 3),
    }
