"""One giant cluster of near-equal codes among others: how it affects searches outside and inside of it.

1,100,000 of 2,000,000 images are one centre with 0, 1 or 3 % of its bits flipped; beside them the 900,000 others alone.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.search.bench import FEW_LONG, Bench
from benchmarks.search.corpus import Corpus, CorpusSettings, make_corpus, terms_of, without_giant
from benchmarks.search.engine import build, index_settings, opened
from benchmarks.search.results import table
from benchmarks.search.timing import percentiles_ms
from search.index.interface import TermIndex

__all__ = ["folder_of", "measure"]

_FLIPPED = (0.0, 0.01, 0.03)
_MAX_POSTINGS = 100_000
"""The bound that the bounded searches have: about a millisecond of counting."""

_QUERIES = 1_000


def measure(bench: Bench) -> dict[str, Any]:
    """The three clusters, each beside the same others."""
    giant = CorpusSettings(2 * bench.images, seed=bench.seed, giant=round(1.1 * bench.images))
    rows = [_alone(bench, make_corpus(without_giant(giant)))]
    for flipped in _FLIPPED:
        rows.append(_with_giant(bench, make_corpus(replace(giant, giant_flipped=flipped)), flipped))
    base = rows[0]["outside"]
    for row in rows[1:]:
        row["outside_to_alone"] = {
            name: round(row["outside"][name] / base[name], 2) for name in ("p50_ms", "p99_ms", "mean_ms")
        }
    table(
        f"A cluster of {giant.giant:,} in {giant.images:,} images, {FEW_LONG.name}, top 100, one query a call",
        ["bits flipped", "outside p50 ms", "p99", "by without", "inside p50 ms", "p99", "bounded p50 ms", "p99", "cut"],
        [
            [
                row["name"],
                row["outside"]["p50_ms"],
                row["outside"]["p99_ms"],
                row.get("outside_to_alone", {}).get("p50_ms", ""),
                *(row.get(kind, {}).get(p, "") for kind in ("inside", "inside_bounded") for p in ("p50_ms", "p99_ms")),
                row.get("inside_bounded", {}).get("cut", ""),
            ]
            for row in rows
        ],
    )
    return {"images": giant.images, "giant": giant.giant, "max_postings": _MAX_POSTINGS, "rows": rows}


def folder_of(bench: Bench, corpus: Corpus) -> Path:
    """Where the index of a corpus is kept for the next run."""
    settings = corpus.settings
    return bench.folder / f"giant-{settings.images}-{settings.giant}-{settings.giant_flipped}-{settings.seed}"


def _alone(bench: Bench, corpus: Corpus) -> dict[str, Any]:
    folder = folder_of(bench, corpus)
    seconds = build(folder, corpus, FEW_LONG)
    with opened(folder, index_settings(FEW_LONG)) as index:
        return {"name": "no such cluster", "build_s": seconds, "outside": _timed(index, corpus, giant=False)}


def _with_giant(bench: Bench, corpus: Corpus, flipped: float) -> dict[str, Any]:
    folder = folder_of(bench, corpus)
    row: dict[str, Any] = {"name": f"{flipped:.0%}", "build_s": build(folder, corpus, FEW_LONG)}
    with opened(folder, index_settings(FEW_LONG)) as index:
        row["outside"] = _timed(index, corpus, giant=False)
        row["inside"] = _timed(index, corpus, giant=True)
    with opened(folder, index_settings(FEW_LONG, max_postings=_MAX_POSTINGS)) as index:
        row["inside_bounded"] = _timed(index, corpus, giant=True)
        row["outside_bounded"] = _timed(index, corpus, giant=False)
    return row


def _timed(index: TermIndex, corpus: Corpus, *, giant: bool) -> dict[str, Any]:
    """One query a call, for up to six seconds."""
    queries = terms_of(corpus.codes[corpus.queries(_QUERIES, giant=giant)], FEW_LONG)
    for query in queries[:20]:
        index.rank(query[None], 100)
    seconds, postings, cut = [], 0, 0
    until = time.monotonic() + 6.0
    for query in queries:
        started = time.perf_counter()
        found = index.rank(query[None], 100)
        seconds.append(time.perf_counter() - started)
        postings += int(found.postings[0])
        cut += bool(found.truncated[0])
        if time.monotonic() > until:
            break
    return {
        **percentiles_ms(seconds),
        "mean_ms": round(1000 * sum(seconds) / len(seconds), 3),
        "queries": len(seconds),
        "postings": round(postings / len(seconds)),
        "cut": round(cut / len(seconds), 3),
    }
