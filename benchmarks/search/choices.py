"""Are the predictions of `neardup tune` right, and what does it choose for 100,000, 1 and 10 million images?

Predicted is recall on a corpus as large as the folder of photographs, once from all of its images and once from an
eighth of its groups of copies. Counted is what an exact search finds there. The choices come from all images, for both
orders of candidates. A picture of the curves lies beside the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.bench import FEW_LONG, MANY_SHORT, Bench
from benchmarks.search.corpus import Shape
from benchmarks.search.results import table
from search.ranking import Order, Ranking
from search.tuning.check import measured_recall
from search.tuning.choose import Grid, RatedChoice, evaluate, recommend
from search.tuning.cost import CostModel, cost_of
from search.tuning.prediction import TermChoice, predict
from search.tuning.sample import SampleDistances, components, measure_distances
from stream.hashing import code_settings, term_settings
from stream.settings import load_settings
from stream.term_tuning.inputs import read_embeddings, read_pairs
from stream.term_tuning.tune import CurrentSettings

__all__ = ["measure"]

_SIZES = (100_000, 1_000_000, 10_000_000)
_MS = (0.5, 1.0, 2.0, 5.0)
"""What one image may cost."""
_SHAPES = (MANY_SHORT, Shape(128, 14), FEW_LONG, Shape(256, 12))
_RANKINGS = (
    Ranking(candidates=100, order=Order.OVERLAP),
    Ranking(candidates=12, depth=1000),
    Ranking(candidates=20, depth=250),
    Ranking(candidates=20, depth=1000),
    Ranking(candidates=100, depth=4000),
)
_K = 20
_DEPTHS = (1000, 2000, 4000, 10_000)
_DEPTH_SHAPES = (MANY_SHORT, Shape(128, 14), Shape(256, 12), Shape(256, 14))
_COUNTED_PAIRS = 1_000
_PART = 0.125
_COLUMNS = ("counted", "whole", "part")
_SHOWN = ("ms", "found", "terms", "ranking", "postings", "bytes", "kept_found", "kept_ranking")
_SERVED = (MANY_SHORT.groups, MANY_SHORT.bits_per_group)


@dataclass(frozen=True, eq=False)
class _Photos:
    """The labelled images, hashed as the settings say."""

    now: CurrentSettings
    search: NDArray[np.float32]
    bits: NDArray[np.bool_]
    codes: NDArray[np.uint8]
    pairs: NDArray[np.int64]
    ignored: NDArray[np.int64]

    def measured(self, rows: NDArray[np.int64]) -> SampleDistances:
        """The distances among some of the images, whose copies are all among them."""
        row_of = np.full(len(self.bits), -1)
        row_of[rows] = np.arange(len(rows))
        pairs = row_of[self.pairs[np.isin(self.pairs[:, 0], rows)]]
        compared = np.unpackbits(self.codes[rows], axis=1).astype(bool)
        return measure_distances(self.bits[rows], compared, pairs, self.ignored[rows])

    def counted(self, shape: Shape, rankings: Sequence[Ranking]) -> list[float]:
        """The recall of each ranking, by real terms and codes."""
        some = self.pairs[np.random.default_rng(1).permutation(len(self.pairs))[:_COUNTED_PAIRS]]
        extractor = replace(self.now.terms, groups=shape.groups, bits_per_group=shape.bits_per_group).build()
        # Half the bytes are compared in half the time.
        terms = extractor.terms(self.search).astype(np.uint16 if shape.bits_per_group <= 16 else np.uint32)
        choices = [TermChoice(shape.groups, shape.bits_per_group, one) for one in rankings]
        return [measured_recall(terms, self.codes, some, choice) for choice in choices]


def measure(bench: Bench) -> dict[str, Any]:
    """Checks predictions, then chooses."""
    photos = _read(bench.photos)
    count = len(photos.bits)
    whole = photos.measured(np.arange(count))
    group = components(count, photos.pairs)
    part = photos.measured(np.flatnonzero(np.random.default_rng(2).random(count)[group] < _PART))
    checks = [row for shape in _SHAPES for row in _checked(photos, shape, whole, part)]
    table(
        f"Predicted and counted shares of copies found among {count:,} images",
        ["terms", "candidates", "counted", "predicted", f"predicted from {part.images:,} images"],
        [
            [row["terms"], row["ranking"], *(f"{row[key]:.3f}" for key in ("counted", "whole", "part"))]
            for row in checks
        ],
    )
    curves = {(images, order): _rated(photos, whole, images, order) for images in _SIZES for order in Order}
    chosen = [_chosen(rated, *of) for of, rated in curves.items()]
    for rows in chosen:
        table(
            f"What {rows[0]['images']:,} images find, candidates by {rows[0]['order']}",
            ["ms an image", "found", "terms", "candidates", "postings", "bytes", "128x12", "candidates"],
            [[row[key] for key in _SHOWN] for row in rows],
        )
    depths = [_by_depth(whole, images, shape) for images in _SIZES for shape in _DEPTH_SHAPES]
    table(
        f"Share found, and ms an image: the nearest {_K} by depth",
        ["images", "terms", "postings", *(f"{depth:,}" for depth in _DEPTHS)],
        [[row["images"], row["terms"], row["postings"], *row["shown"]] for row in depths],
    )
    _draw(bench.folder / "choices.png", curves)
    return {"images": count, "checks": checks, "choices": chosen, "depths": depths}


def _read(source: Path) -> _Photos:
    source = source / "photos.parquet" if (source / "photos.parquet").exists() else source
    settings = load_settings()
    signal = settings.signal()[1]
    now = CurrentSettings(term_settings(settings, signal), code_settings(settings, signal), signal.terms.ranking)
    read = read_embeddings(source, now.terms.dimension, now.code.dimension)
    pairs = read_pairs(source, read.image_ids)
    ignored = np.full(len(read.image_ids), -1) if pairs.ignored is None else pairs.ignored
    return _Photos(now, read.search, now.bits(read), now.codes(read), pairs.rows, ignored)


def _checked(photos: _Photos, shape: Shape, whole: SampleDistances, part: SampleDistances) -> list[dict[str, Any]]:
    images = len(photos.bits)
    predicted = [
        [one.recall for one in predict(sample, images, shape.groups, shape.bits_per_group, _RANKINGS)]
        for sample in (whole, part)
    ]
    return [
        {"terms": shape.name, "ranking": _named(one), "counted": counted, "whole": by_whole, "part": by_part}
        for one, counted, by_whole, by_part in zip(_RANKINGS, photos.counted(shape, _RANKINGS), *predicted, strict=True)
    ]


def _rated(photos: _Photos, sample: SampleDistances, images: int, order: Order) -> list[RatedChoice]:
    return evaluate(sample, images, CostModel(), replace(photos.now.ranking, order=order), Grid())


def _chosen(rated: Sequence[RatedChoice], images: int, order: Order) -> list[dict[str, Any]]:
    """The best for each cost, of all choices and of those with the terms that the project serves."""
    served = [one for one in rated if (one.choice.groups, one.choice.bits_per_group) == _SERVED]
    rows = []
    for most in _MS:
        best, kept = (_best(of, most) for of in (rated, served))
        row: dict[str, Any] = {"images": images, "order": order.value, "ms": most}
        rows.append(row | _described(best, "") | _described(kept, "kept_"))
    return rows


def _by_depth(sample: SampleDistances, images: int, shape: Shape) -> dict[str, Any]:
    rankings = [Ranking(candidates=_K, depth=depth) for depth in _DEPTHS]
    predictions = predict(sample, images, shape.groups, shape.bits_per_group, rankings)
    costs = [cost_of(one, CostModel()).image_us / 1000 for one in predictions]
    return {
        "images": images,
        "terms": shape.name,
        "postings": round(predictions[0].postings),
        "found": [one.recall for one in predictions],
        "ms": costs,
        "shown": [f"{one.recall:.3f}, {cost:.2f}" for one, cost in zip(predictions, costs, strict=True)],
    }


def _best(rated: Sequence[RatedChoice], most_ms: float) -> RatedChoice | None:
    affordable = [one for one in rated if one.cost.image_us <= 1000 * most_ms]
    return max(affordable, key=lambda one: one.prediction.recall, default=None)


def _described(one: RatedChoice | None, prefix: str) -> dict[str, Any]:
    if one is None:
        return {f"{prefix}{key}": "" for key in ("found", "terms", "ranking", "postings", "bytes")}
    choice = one.choice
    described = {
        "found": round(one.prediction.recall, 3),
        "terms": Shape(choice.groups, choice.bits_per_group).name,
        "ranking": _named(choice.ranking),
        "postings": round(one.prediction.postings),
        "bytes": round(one.cost.image_bytes),
    }
    return {f"{prefix}{key}": value for key, value in described.items()}


def _named(one: Ranking) -> str:
    least = f", {one.min_overlap} shared terms" if one.min_overlap > 1 else ""
    depth = f"nearest {one.candidates:,} of {one.depth:,}"
    return (depth if one.order is Order.DISTANCE else f"first {one.candidates:,}") + least


def _draw(path: Path, curves: dict[tuple[int, Order], list[RatedChoice]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (images, order), rated in curves.items():
        frontier = recommend(rated, 0.5, CostModel()).frontier
        axes.step(
            [one.cost.image_us / 1000 for one in frontier],
            [one.prediction.recall for one in frontier],
            where="post",
            color=f"C{_SIZES.index(images)}",
            linestyle="-" if order is Order.DISTANCE else ":",
            label=f"{images:,} images, by {'code distance' if order is Order.DISTANCE else 'shared terms'}",
        )
    axes.set(xscale="log", xlabel="cost of one image on one core, ms", ylabel="share of copies found", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
