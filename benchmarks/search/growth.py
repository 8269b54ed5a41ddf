"""Queries a second at 0.1, 1 and 5 million images, and the exponent of the growth."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np

from benchmarks.search.bench import FEW_LONG, Bench
from benchmarks.search.corpus import terms_of
from benchmarks.search.engine import build, index_settings, opened
from benchmarks.search.results import table
from benchmarks.search.timing import in_batches, rate

__all__ = ["measure"]

_SHARES = (0.1, 1.0, 5.0)
_BATCH = 64


def measure(bench: Bench) -> dict[str, Any]:
    """The ordinary corpus at three sizes, 64 groups of 16 bits, top 100."""
    found = []
    for share in _SHARES:
        images = round(share * bench.images)
        corpus = bench.sized(images)
        folder = bench.folder / f"ours-{FEW_LONG.name}-{images}-{bench.seed}"
        seconds = build(folder, corpus, FEW_LONG)
        queries = terms_of(corpus.codes[corpus.queries(16_384)], FEW_LONG)
        with opened(folder, index_settings(FEW_LONG)) as index:
            postings = float(index.rank(queries[:1024], 100).postings.mean())
            batches = [queries[rows] for rows in in_batches(np.arange(len(queries)), _BATCH)]
            rates = rate(batches, _BATCH, lambda batch, one=index: one.rank(batch, 100), bench.seconds(6.0))
        found.append({"images": images, "rate": round(rates, 1), "postings": round(postings), "build_s": seconds})
        if share > 1:
            shutil.rmtree(folder)
    logs = np.log([[one["images"], one["rate"]] for one in found])
    exponent = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    table(
        f"Growth, {FEW_LONG.name}, top 100, batches of {_BATCH}",
        ["images", "queries/s", "postings a query", "us a query"],
        [[one["images"], one["rate"], one["postings"], 1e6 / one["rate"]] for one in found],
    )
    print(f"queries/s ~ images ** {exponent:.2f}")
    return {"sizes": found, "exponent": round(exponent, 3)}
