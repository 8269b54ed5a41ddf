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
from search.tuning.cost import CostModel
from search.tuning.prediction import TermChoice, predict
from search.tuning.sample import SampleDistances, components, measure_distances
from stream.hashing import code_settings, term_settings
from stream.settings import load_settings
from stream.term_tuning.inputs import read_embeddings, read_pairs
from stream.term_tuning.tune import CurrentSettings

__all__ = ["measure"]

_SIZES = (100_000, 1_000_000, 10_000_000)
_WANTED = (0.6, 0.7, 0.8, 0.9)
_SHAPES = (MANY_SHORT, Shape(128, 14), FEW_LONG, Shape(256, 12))
_RANKINGS = (
    Ranking(candidates=100, order=Order.OVERLAP),
    Ranking(candidates=12, depth=1000),
    Ranking(candidates=20, depth=250),
    Ranking(candidates=20, depth=1000),
    Ranking(candidates=100, depth=4000),
)
_COUNTED_PAIRS = 2_000
_PART = 0.125
_COLUMNS = ("counted", "whole", "part")


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
        terms = extractor.terms(self.search)
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
            f"The cheapest choices for {rows[0]['images']:,} images, candidates by {rows[0]['order']}",
            ["wanted", "found", "terms", "candidates", "postings", "ms"],
            [
                [row["wanted"], f"{row['found']:.3f}", row["terms"], row["ranking"], row["postings"], row["ms"]]
                for row in rows
            ],
        )
    _draw(bench.folder / "choices.png", curves)
    return {"images": count, "checks": checks, "choices": chosen}


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
    rows = []
    for wanted in _WANTED:
        best = recommend(rated, wanted, CostModel()).chosen
        choice = best.choice
        rows.append(
            {
                "images": images,
                "order": order.value,
                "wanted": wanted,
                "found": best.prediction.recall,
                "terms": Shape(choice.groups, choice.bits_per_group).name,
                "ranking": _named(choice.ranking),
                "postings": round(best.prediction.postings),
                "ms": best.cost.image_us / 1000,
            }
        )
    return rows


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
