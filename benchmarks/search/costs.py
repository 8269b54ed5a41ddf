"""The time of a search by lists, postings, compared codes and candidates: the constants of `search.tuning.cost`.

Four shapes of terms over the ordinary corpus, which differ in how many lists a search reads and how long these are. The
time of a search is fitted as `list_us` for each group and `posting_us` for each posting, by relative errors, so that
short searches count as much as long ones. What a code costs is what both stages take longer than the first one alone,
by the codes that are compared. What a candidate costs beside is what the answer with ids and codes takes longer than
the bare one.
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
from search.ranking import DEFAULT_RANKING, Order

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
    lookup_us, code_us = (float(np.mean([row[key] for row in rows])) for key in ("candidate_us", "code_us"))
    table(
        f"Time of a search, {bench.images:,} images, top {_K}, batches of {_BATCH}",
        ["", "postings", "us", "fitted us", "us a compared code", "us a candidate for id and code"],
        [
            [row[key] for key in ("shape", "postings", "search_us", "fitted_us", "code_us", "candidate_us")]
            for row in rows
        ],
    )
    fitted = {"list_us": list_us, "posting_us": posting_us, "code_us": code_us, "lookup_us": lookup_us}
    constants = {name: round(value, 4) for name, value in fitted.items()}
    print(", ".join(f"{name} {value}" for name, value in constants.items()))
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
    codes = bench.corpus.codes[bench.corpus.queries(_QUERIES)]
    queries = terms_of(codes, shape)
    rows = in_batches(np.arange(len(queries)), _BATCH)
    batches = [queries[some] for some in rows]
    with opened(bench.index(shape), index_settings(shape, _K)) as index:
        postings = float(index.rank(queries[:1024], _K).postings.mean())
        bare = rate(batches, _BATCH, lambda batch: index.rank(batch, _K), bench.seconds(6.0))
        asked = [[TermQuery(terms, _K) for terms in batch] for batch in batches]
        whole = rate(asked, _BATCH, index.search, bench.seconds(6.0))
    with opened(bench.index(shape), index_settings(shape, _K, order=Order.DISTANCE)) as index:
        compared = float(index.rank(queries[:1024], DEFAULT_RANKING.depth).sizes.mean())
        coded = [(queries[some], codes[some]) for some in rows]
        both = rate(coded, _BATCH, lambda batch: index.rank(batch[0], _K, codes=batch[1]), bench.seconds(6.0))
    return {
        "postings": round(postings),
        "search_us": round(1e6 / bare, 1),
        "both_us": round(1e6 / both, 1),
        "code_us": round((1e6 / both - 1e6 / bare) / compared, 4),
        "candidate_us": round(max(0.0, 1e6 / whole - 1e6 / bare) / _K, 3),
    }
