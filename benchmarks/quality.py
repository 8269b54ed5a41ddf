"""The classifier beside other ways to tell copies, on the same photographs and the same split.

    python -m benchmarks.quality FOLDER

FOLDER is laid out as for `neardup evaluate` (index.parquet, search_f16.npy, score_f16.npy), with small pictures and
their embeddings in FOLDER/demo for the perceptual hashes. Compared over the candidates of the term search, with pairs
and images of the test split counted: the served model, other versions that are named, the cosine of the score
embeddings, and the share of equal hamming bits. The others get their thresholds as ours does: `accept` on pairs of the
validation split, `head_accept` and `adopt` on streams of it. Over all pairs of the small pictures: PDQ and pHash too.

Writes var/bench/quality.json and the precision-recall curves as var/bench/quality.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import command_line, machine, revision
from search.fitted_projection import rooted
from search.score_codes import CodeSettings
from search.scoring.judging import StreamSettings, judge_clusters, judge_pairs, make_streams, score_pairs
from search.scoring.labelled import LabelledPhotos, keep_splits, read_photos
from search.scoring.model_folder import ModelFolder
from search.scoring.plots import draw_curves
from search.scoring.tf_model import load_tf
from search.scoring.thresholds import PrecisionCurve, precision_curve
from search.scoring.training_settings import TrainSettings
from search.scoring.validation import Streams, choose_thresholds
from search.types import Thresholds
from stream.demo.sample import SAMPLE
from stream.hashing import code_settings, term_settings
from stream.settings import load_settings

__all__ = ["main"]

Scorer = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]

_PART = 8192


def main() -> None:
    """Measures, prints the tables, writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--versions", nargs="*", default=[], help="further versions of the model folder")
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("var/bench"))
    options = parser.parse_args()
    settings = load_settings(Path("neardup.toml"))
    _, signal = settings.signal(None)
    terms, code = term_settings(settings, signal), code_settings(settings, signal)
    photos = keep_splits(read_photos(options.folder, terms.dimension, code.dimension), settings.path(SAMPLE))
    streams = make_streams(photos, StreamSettings(terms, 20_240_503))
    models = ModelFolder(settings.path(signal.model))
    rows: dict[str, dict[str, float]] = {}
    curves: dict[str, PrecisionCurve] = {}
    for version in dict.fromkeys([models.served(), *options.versions]):
        loaded = models.load(version, load_tf)
        codes = code.build().codes(photos.score)
        rows[version], curves[version] = _judged(
            photos, streams, codes, loaded.score, loaded.card.thresholds, options.orders
        )
        _print(version, rows[version])
    numbers = np.arange(len(photos), dtype="<u4")[:, None].view(np.uint8)
    for name, scorer in (("cosine", _cosine(photos.score - _mean(photos))), ("hamming", _hamming(photos, code))):
        chosen = choose_thresholds(streams, numbers, scorer, _threshold_settings(options, terms, code)).thresholds
        rows[name], curves[name] = _judged(photos, streams, numbers, scorer, chosen, options.orders)
        _print(name, rows[name])
    pictures = _pictures(options.folder / "demo", code, models) if (options.folder / "demo").is_dir() else {}
    for name, found in pictures.items():
        _print(f"pictures: {name}", found)
    options.out.mkdir(parents=True, exist_ok=True)
    draw_curves(curves, options.out / "quality.png")
    report = {
        "command": command_line("benchmarks.quality"),
        "machine": machine().to_dict(),
        "revision": revision(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "test_split": rows,
        "pictures": pictures,
    }
    (options.out / "quality.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _judged(
    photos: LabelledPhotos,
    streams: Streams,
    codes: NDArray[np.uint8],
    scorer: Scorer,
    thresholds: Thresholds,
    orders: int,
) -> tuple[dict[str, float], PrecisionCurve]:
    counted = photos.split == "test"
    pairs = score_pairs(counted, streams, codes, scorer)
    judged = judge_pairs(photos, counted, pairs, thresholds.accept)
    clusters = judge_clusters(photos, counted, streams, codes, scorer, thresholds, orders)
    found = {
        "recall_at_precision_0.99": judged.recall_at_precision,
        "average_precision": judged.average_precision,
        "precision_at_accept": judged.precision_at_accept,
        "recall_at_accept": judged.recall_at_accept,
        **clusters,
    }
    return found, pairs.curve


def _mean(photos: LabelledPhotos) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = photos.score[photos.is_photo & (photos.split == "train")].mean(axis=0)
    return mean


def _rows_of(codes: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Codes that are row numbers."""
    return np.ascontiguousarray(codes).view("<u4")[:, 0]


def _cosine(vectors: NDArray[np.float32]) -> Scorer:
    """Cosine, brought to 0 to 1."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def score(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        one, other = _rows_of(left), _rows_of(right)
        parts = [
            np.einsum("ij,ij->i", unit[one[start : start + _PART]], unit[other[start : start + _PART]])
            for start in range(0, len(one), _PART)
        ]
        cosines = np.concatenate([np.empty(0, np.float32), *parts])
        scores: NDArray[np.float32] = np.clip((1 + cosines) / 2, 1e-6, 1).astype(np.float32)
        return scores

    return score


def _hamming(photos: LabelledPhotos, code: CodeSettings) -> Scorer:
    """The share of equal bits."""
    bits = replace(code, projection=None).build().codes(photos.score)

    def score(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        different = np.bitwise_count(bits[_rows_of(left)] ^ bits[_rows_of(right)]).sum(axis=1)
        scores: NDArray[np.float32] = np.clip(1 - different / code.bits, 1e-6, 1).astype(np.float32)
        return scores

    return score


def _threshold_settings(options: argparse.Namespace, terms: Any, code: CodeSettings) -> TrainSettings:
    return TrainSettings(options.folder, Path(), terms, code, "", "", orders=1)


def _pictures(folder: Path, code: CodeSettings, models: ModelFolder) -> dict[str, dict[str, float]]:
    """All pairs of the small pictures, by our model, cosine, and the perceptual hashes."""
    import imagehash
    import pdqhash
    from PIL import Image

    with (folder / "demo.csv").open(encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    images = [Image.open(folder / row["file"]).convert("RGB") for row in table]
    vectors = np.load(folder / "score_f16.npy").astype(np.float32)
    left, right = np.array(list(combinations(range(len(table)), 2))).T
    is_copy = np.array(
        [table[one]["source_id"] == table[other]["source_id"] for one, other in zip(left, right, strict=True)]
    )
    codes = code.build().codes(vectors)
    scores = {models.served(): models.load(models.served(), load_tf).score(codes[left], codes[right])}
    roots = rooted(vectors).astype(np.float32)
    unit = roots / np.linalg.norm(roots, axis=1, keepdims=True)
    scores["cosine"] = np.einsum("ij,ij->i", unit[left], unit[right])
    hashes = {
        "PDQ": np.stack([pdqhash.compute(np.asarray(image))[0] for image in images]).astype(bool),
        "pHash": np.stack([imagehash.phash(image).hash.reshape(-1) for image in images]),
    }
    for name, bits in hashes.items():
        scores[name] = 1 - (bits[left] ^ bits[right]).mean(axis=1).astype(np.float32)
    return {
        name: {
            "recall_at_precision_0.99": (
                curve := precision_curve(found.astype(np.float32), is_copy)
            ).recall_at_precision(0.99),
            "average_precision": curve.average_precision,
            "pairs_of_copies": float(is_copy.sum()),
        }
        for name, found in scores.items()
    }


def _print(name: str, found: dict[str, float]) -> None:
    print(name, "  ".join(f"{key} {value:.3f}" for key, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
