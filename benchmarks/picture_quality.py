"""The classifier beside perceptual hashes, on small pictures with their embeddings.

All pairs of the pictures are scored, and all pictures are streamed in several orders. The pictures are few, so each
method has one threshold for all three uses: the one with the best F1 of the clusters on these same pictures.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.rival_scorers import cosine_scorer, hash_similarities, row_codes, rows_of
from core.types import Thresholds
from scoring.model import PairModel
from search.hashing.score_codes import CodeSettings
from search.ranking import Order, Ranking
from training.candidates import RankedCandidates
from training.evaluation import evaluate_clusters
from training.simulation import PairScorer, SimulatedStream
from training.thresholds import precision_curve

__all__ = ["picture_quality"]

_ORDERS = 5
_MOST_THRESHOLDS = 60
"""Thresholds that are tried on clusters, at most."""


def picture_quality(
    folder: Path, code: CodeSettings, mean: NDArray[np.float32], model: PairModel
) -> dict[str, dict[str, float]]:
    """For each method: recall at precision 0.99 over all pairs, average precision, best F1 of the clusters.

    Args:
        folder: Pictures; demo.csv with the columns file and source_id; embeddings in its order in score_f16.npy and
            search_f16.npy.
        code: How score codes are made.
        mean: The mean of the score embeddings of other photographs.
        model: The classifier.
    """
    with (folder / "demo.csv").open(encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    vectors, search = (
        np.load(folder / f"{name}_f16.npy", allow_pickle=False).astype(np.float32) for name in ("score", "search")
    )
    groups = np.array([row["source_id"] for row in table])
    codes, rows = code.build().codes(vectors, search), row_codes(len(table))
    one, other = (side.reshape(-1) for side in np.meshgrid(*[np.arange(len(table))] * 2, indexing="ij"))
    square = (len(table), len(table))
    methods = {
        model.card.version: model.score(codes[one], codes[other]).reshape(square),
        "cosine": cosine_scorer(vectors, mean)(rows[one], rows[other]).reshape(square),
        **hash_similarities([folder / row["file"] for row in table]),
    }
    return {name: _judged(similarities, groups) for name, similarities in methods.items()}


def _judged(similarities: NDArray[np.float32], groups: NDArray[np.str_]) -> dict[str, float]:
    left, right = np.triu_indices(len(groups), 1)
    is_copy = groups[left] == groups[right]
    curve = precision_curve(similarities[left, right], is_copy)
    return {
        "recall_at_precision_0.99": curve.recall_at_precision(0.99),
        "average_precision": curve.average_precision,
        "bcubed_f1": _best_f1(similarities, groups, curve.threshold),
        "pairs_of_copies": float(is_copy.sum()),
    }


def _best_f1(similarities: NDArray[np.float32], groups: NDArray[np.str_], thresholds: NDArray[np.float32]) -> float:
    count = len(groups)
    earlier = np.arange(count)
    everyone = RankedCandidates(
        np.concatenate([[0], np.cumsum(earlier)]),
        np.concatenate([np.arange(image) for image in earlier]),
        np.ones(count * (count - 1) // 2, dtype=np.int64),
    )
    names = [f"picture {number}" for number in range(count)]
    orders = [np.random.RandomState(number).permutation(count) for number in range(_ORDERS)]
    scorer = _looked_up(similarities)
    whole = Ranking(count, order=Order.OVERLAP)
    streams = [SimulatedStream(names, row_codes(count)[order], everyone, whole, scorer) for order in orders]

    def f1(threshold: float) -> float:
        same = Thresholds(threshold, threshold, threshold)
        found = [
            evaluate_clusters(stream.heads(same), groups[order].tolist()).bcubed.f1
            for order, stream in zip(orders, streams, strict=True)
        ]
        return float(np.mean(found))

    step = max(1, len(thresholds) // _MOST_THRESHOLDS)
    return max(f1(float(threshold)) for threshold in thresholds[::step])


def _looked_up(similarities: NDArray[np.float32]) -> PairScorer:
    def score(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = similarities[rows_of(left), rows_of(right)]
        return found

    return score
