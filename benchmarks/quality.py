"""The classifier beside other methods to recognise copies, on the same photographs and the same split.

    python -m benchmarks.quality FOLDER

FOLDER has the layout for `neardup evaluate` (index.parquet, search_f16.npy, score_f16.npy), and small pictures with
their embeddings in FOLDER/demo for the perceptual hashes. Four methods are compared on the candidates of the term
search, counting pairs and images of the test split: the served model, the models in further version folders (`--also`),
the cosine of the score embeddings, and the share of equal hamming bits. The last two get their thresholds like our
model: `accept` on pairs of the validation split, `head_accept` and `adopt` on a stream of it. PDQ and pHash are
compared on the small pictures.

`--terms 64x16` uses other terms than the settings, `--candidates`, `--depth` and `--order` another ranking. The gate of
a model applies to its own pairs.

Writes var/bench/quality.json after each method, so that a stopped run has results too, and the precision-recall curves
as var/bench/quality.png.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import measured_with, write_results
from benchmarks.picture_quality import picture_quality
from benchmarks.rival_scorers import cosine_scorer, hamming_scorer, row_codes
from core.types import Thresholds
from scoring.model import model_class
from scoring.model_folder import ModelFolder
from search.ranking import Order, Ranking
from stream.demo.sample import SAMPLE
from stream.hashing import code_settings, term_settings
from stream.settings import load_settings
from training.judging import judge_clusters, judge_pairs, score_pairs
from training.labelled import LabelledPhotos, keep_splits, read_photos
from training.plots import draw_curves
from training.simulation import PairScorer
from training.thresholds import PrecisionCurve
from training.training_settings import TrainSettings
from training.validation import Streams, choose_thresholds

__all__ = ["main"]

_SEED = 20_240_503
"""Seed of the orders of the streams."""


@dataclass(frozen=True, eq=False)
class _Method:
    """One method to recognise copies."""

    name: str
    codes: NDArray[np.uint8]
    scorer: PairScorer
    thresholds: Thresholds | None = None
    """The thresholds of the model; None: they are chosen on the validation split."""
    gate: int | None = None


def main() -> None:
    """Measures, prints the tables, writes the files."""
    options = _options()
    settings = load_settings(Path("neardup.toml"))
    _, signal = settings.signal(None)
    terms, code = term_settings(settings, signal), code_settings(settings, signal)
    if options.terms:
        groups, bits = map(int, options.terms.split("x"))
        terms = replace(terms, groups=groups, bits_per_group=bits)
    ranking = _ranking(signal.terms.ranking, options)
    photos = keep_splits(read_photos(options.folder, terms.dimension, code.dimension), settings.path(SAMPLE))
    mean = photos.score[photos.is_photo & (photos.split == "train")].mean(axis=0)
    models = ModelFolder(settings.path(signal.model))
    kind = model_class(signal.model_class)
    served = models.load(models.served(), kind)
    others = [ModelFolder(folder.parent).load(folder.name, kind) for folder in options.also]
    codes, rows = code.build().codes(photos.score, photos.search), row_codes(len(photos))
    methods = [
        _Method(model.card.version, codes, model.score, model.card.thresholds, model.card.gate)
        for model in (served, *others)
    ]
    if not options.ours_alone:
        methods.append(_Method("cosine", rows, cosine_scorer(photos.score, mean)))
        methods.append(_Method("hamming", rows, hamming_scorer(photos.score, code)))
    streams = Streams(photos, terms, ranking, code, _SEED)
    choosing = TrainSettings(options.folder, Path(), terms, code, "", "", orders=1)
    report = _Report(options.out, terms.describe() | ranking.describe())
    curves: dict[str, PrecisionCurve] = {}
    for method in methods:
        found, curves[method.name] = _judged(photos, streams, method, choosing, options.orders)
        report.add("test_split", method.name, found)
    draw_curves(curves, options.out / "quality.png")
    if not options.ours_alone and (options.folder / "demo").is_dir():
        for name, found in picture_quality(options.folder / "demo", code, mean, served).items():
            report.add("pictures", name, found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--also", nargs="*", type=Path, default=[], help="folders of further versions")
    parser.add_argument("--orders", type=int, default=3, help="random orders of the stream")
    parser.add_argument("--terms", default="", metavar="GROUPSxBITS", help="other terms than in the settings")
    parser.add_argument("--candidates", type=int, help="of the first page, instead of the settings'")
    parser.add_argument("--depth", type=int, help="instead of the settings'")
    parser.add_argument("--order", choices=list(Order), help="instead of the settings'")
    parser.add_argument("--ours-alone", action="store_true", help="without the other methods")
    parser.add_argument("--out", type=Path, default=Path("var/bench"))
    return parser.parse_args()


def _ranking(served: Ranking, options: argparse.Namespace) -> Ranking:
    return replace(
        served,
        candidates=options.candidates or served.candidates,
        depth=options.depth or served.depth,
        order=Order(options.order or served.order),
    )


def _judged(
    photos: LabelledPhotos, streams: Streams, method: _Method, choosing: TrainSettings, orders: int
) -> tuple[dict[str, float], PrecisionCurve]:
    thresholds = method.thresholds or choose_thresholds(streams, method.codes, method.scorer, choosing).thresholds
    counted = photos.split == "test"
    streams = streams.gated(method.gate)
    pairs = score_pairs(counted, streams, method.codes, method.scorer)
    judged = judge_pairs(photos, counted, pairs, thresholds.accept)
    clusters = judge_clusters(counted, streams, method.codes, method.scorer, thresholds, orders)
    found = {
        "recall_at_precision_0.99": judged.recall_at_precision,
        "average_precision": judged.average_precision,
        "precision_at_accept": judged.precision_at_accept,
        "recall_at_accept": judged.recall_at_accept,
        "found_by_search": judged.found_by_search,
        "found_at_precision_0.99": judged.found_at_precision,
        **clusters,
    }
    return found, pairs.curve


class _Report:
    """The results so far, printed and written after each method."""

    def __init__(self, folder: Path, terms: dict[str, Any]) -> None:
        self._path = folder / "quality.json"
        self._report: dict[str, Any] = {
            **measured_with("benchmarks.quality"),
            "terms": terms,
            "test_split": {},
            "pictures": {},
        }

    def add(self, part: str, name: str, found: dict[str, float]) -> None:
        """Adds the results of one method."""
        print(f"{part:<12}{name:<20}", "  ".join(f"{key} {value:.3f}" for key, value in found.items()), flush=True)
        self._report[part][name] = found
        write_results(self._path, self._report)


if __name__ == "__main__":
    main()
