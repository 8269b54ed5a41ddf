"""The same comparison on photographs: queries a second against exact peers, and the copies that each shape finds."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.search.bench import FEW_LONG, MANY_SHORT, Bench
from benchmarks.search.engine import fill
from benchmarks.search.exact_peers import compare
from benchmarks.search.results import table
from search.ranking import Order, Ranking
from search.tuning.check import measured_recall
from search.tuning.prediction import TermChoice
from stream.hashing import term_settings
from stream.settings import load_settings
from stream.term_tuning.inputs import read_embeddings, read_pairs

__all__ = ["measure"]

_RECALL_PAIRS = 4_000
_BY_OVERLAP = Ranking(candidates=100, order=Order.OVERLAP)


def measure(bench: Bench) -> dict[str, Any]:
    """Both shapes on the folder of photographs."""
    settings = load_settings()
    terms = term_settings(settings, settings.signal()[1])
    source = bench.photos / "photos.parquet" if (bench.photos / "photos.parquet").exists() else bench.photos
    read = read_embeddings(source, terms.dimension, settings.signal()[1].score_embedding.dimension)
    pairs = read_pairs(source, read.image_ids).rows
    some = pairs[np.random.default_rng(1).permutation(len(pairs))[:_RECALL_PAIRS]]
    name = hashlib.sha256("".join(read.image_ids).encode()).hexdigest()[:8]
    queries = np.random.default_rng(2).permutation(len(read.image_ids))
    found = {}
    for shape in (FEW_LONG, MANY_SHORT):
        extractor = replace(terms, groups=shape.groups, bits_per_group=shape.bits_per_group).build()
        values = extractor.terms(read.search)
        codes = np.packbits(extractor.bits(read.search), axis=1)
        folder = bench.folder / f"photos-{name}-{shape.name}"
        fill(folder, values, codes, shape)
        found[shape.name] = compare(bench, values, shape, queries, folder, folder / "tantivy")
        found[shape.name]["recall_at_100"] = round(
            measured_recall(values, codes, some, TermChoice(shape.groups, shape.bits_per_group, _BY_OVERLAP)), 4
        )
    table(
        f"Copies found among the first 100, {len(read.image_ids):,} photographs and edits",
        ["", "share of pairs"],
        [[shape, f"{each['recall_at_100']:.3f}"] for shape, each in found.items()],
    )
    return {"images": len(read.image_ids), "shapes": found}
