"""The plots of a tuning, as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.vectors import unit_rows
from search.hashing.signed_sqrt import signed_sqrt
from search.hashing.terms import TermSettings, expected_overlap, jaccard
from search.ranking import Order, Ranking
from search.tuning.check import measured_overlaps
from search.tuning.overlap import overlap_at_least, overlap_distribution
from stream.term_tuning.inputs import CopyPairs, Embeddings
from stream.term_tuning.tune import Tuning

__all__ = ["draw_curve", "draw_overlap"]

_POINTS = 4_000


def draw_curve(path: Path, tuning: Tuning, wanted: float) -> None:
    """Draws recall against the cost of an image, with the choice, and beside it the distances of copies and
    strangers."""
    figure, (left, right) = _figure(2)
    chosen, frontier = tuning.recommendation.chosen, tuning.recommendation.frontier
    left.step(
        [one.cost.image_us / 1000 for one in frontier],
        [one.prediction.recall for one in frontier],
        where="post",
        label="best recall for this cost",
    )
    for name, one, mark in (("chosen", chosen, "o"), ("current settings", tuning.current, "x")):
        choice = one.choice
        text = f"{name}: {choice.groups} x {choice.bits_per_group}, {_ranked(choice.ranking)}"
        left.plot(one.cost.image_us / 1000, one.prediction.recall, mark, markersize=9, label=text)
    left.axhline(wanted, linestyle=":", color="grey", label=f"wanted: {wanted:g}")
    left.set(
        xscale="log",
        xlabel="cost of one image on one core, ms",
        ylabel="share of copies found",
        title=f"{chosen.prediction.images:,} images",
    )
    left.legend(fontsize=8)
    _draw_distances(right, tuning)
    _save(figure, path)


def draw_overlap(path: Path, terms: TermSettings, embeddings: Embeddings, pairs: CopyPairs, tuning: Tuning) -> None:
    """Draws shared terms against the cosine of what is hashed, for copies and random pairs of the sample."""
    extractor = terms.build()
    values = extractor.terms(embeddings.search)
    centred = _hashed(terms, embeddings.search) - (0.0 if terms.centre is None else terms.centre)
    centred = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    random = np.random.default_rng(5)
    copies = pairs.rows[random.permutation(len(pairs.rows))[:_POINTS]]
    others = random.integers(0, len(centred), (_POINTS, 2))
    figure, (axis,) = _figure(1)
    for name, rows, colour in (
        ("random pairs", others[others[:, 0] != others[:, 1]], "grey"),
        ("copies", copies, "C0"),
    ):
        shares = _jaccard_of(measured_overlaps(values, rows), terms.groups)
        axis.scatter(_cosines(centred, rows), shares, s=5, alpha=0.35, color=colour, label=name)
    line = np.linspace(-1, 1, 201)
    expected = [expected_overlap(float(cosine), terms.groups, terms.bits_per_group) for cosine in line]
    axis.plot(line, [m / (2 * terms.groups - m) for m in expected], color="C1", label="expected")
    axis.set(
        xlabel="cosine of the vectors that are hashed, less their mean",
        ylabel="Jaccard index of the term sets, m / (2G - m)",
        title=f"{terms.groups} groups of {terms.bits_per_group} bits, {tuning.sample.images:,} images",
    )
    axis.legend(fontsize=8)
    _save(figure, path)


def _hashed(terms: TermSettings, search: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors from which the centre is subtracted."""
    rows = unit_rows(search) if terms.normalise else search
    return signed_sqrt(rows).astype(np.float32) if terms.signed_sqrt else rows


def _ranked(ranking: Ranking) -> str:
    if ranking.order is Order.OVERLAP:
        return f"first {ranking.candidates:,} by shared terms (at least {ranking.min_overlap})"
    least = f" with {ranking.min_overlap} shared terms" if ranking.min_overlap > 1 else ""
    return f"nearest {ranking.candidates:,} of {ranking.depth:,}{least}"


def _draw_distances(axis: Any, tuning: Tuning) -> None:
    sample, choice = tuning.sample, tuning.recommendation.chosen.choice
    edges = np.arange(0, sample.bits + 1, max(1, sample.bits // 64))
    distances = np.arange(sample.bits + 1)
    axis.hist(sample.asked.distance, edges, density=True, alpha=0.5, label="copies")
    axis.hist(
        distances, edges, weights=sample.typical_strangers, density=True, alpha=0.5, color="grey", label="strangers"
    )
    axis.set(xlabel="bits that differ", ylabel="share of pairs, per bit", title=f"{sample.bits} bits")
    curve = overlap_at_least(overlap_distribution(sample.bits, choice.groups, choice.bits_per_group))
    shares = axis.twinx()
    shares.plot(distances, curve[:, choice.ranking.min_overlap], color="C1", label="probability to share enough terms")
    shares.set(ylim=(0, 1.02))
    axis.legend(fontsize=8, loc="upper left")
    shares.legend(fontsize=8, loc="center left")


def _jaccard_of(overlaps: NDArray[np.int64], groups: int) -> list[float]:
    return [jaccard(overlap, groups) for overlap in overlaps.tolist()]


def _cosines(unit: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    cosines: NDArray[np.float64] = np.einsum("ij,ij->i", unit[rows[:, 0]], unit[rows[:, 1]])
    return cosines


def _figure(panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5 * panels, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, panels, panel + 1) for panel in range(panels)]


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
