"""Plots of a classifier's results: precision-recall curves, score histogram, reliability, recall by kind of edit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from training.judging import ScoredPairs, Share
from training.thresholds import PrecisionCurve, reliability

__all__ = ["draw_all", "draw_curves"]

mpl.use("agg")

_SIZE = (6.0, 4.5)
_DOTS_PER_INCH = 100
_MOST_POINTS = 2000
"""Points of a curve; more would not be visible."""


def draw_all(
    pairs: ScoredPairs, families: Mapping[str, Share], accept: float, name: str, folder: Path, of: str
) -> list[Path]:
    """Draws all four plots into a folder, and returns the files.

    Args:
        pairs: The scored pairs.
        families: Accepted copies per kind of edit.
        accept: The model's threshold.
        name: The model's name.
        folder: Created if it does not exist.
        of: Which pairs these are, for the titles.
    """
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{name}, {of}"
    draw_curves({name: pairs.curve}, folder / "precision-recall.png", title)
    _draw_histogram(pairs, accept, folder / "scores.png", title)
    _draw_reliability(pairs, folder / "reliability.png", title)
    _draw_families(families, folder / "families.png", title)
    return [folder / f"{one}.png" for one in ("precision-recall", "scores", "reliability", "families")]


def draw_curves(curves: Mapping[str, PrecisionCurve], path: Path, title: str = "") -> None:
    """Precision over recall, one line per name."""
    figure, axes = plt.subplots(figsize=_SIZE)
    for name, curve in curves.items():
        step = max(1, len(curve.threshold) // _MOST_POINTS)
        shown = curve.recall_at_precision(0.99)
        axes.plot(curve.recall[::step], curve.precision[::step], label=f"{name}: {shown:.3f} at 0.99", linewidth=1.2)
    axes.axhline(0.99, color="0.7", linewidth=0.8, linestyle="--")
    axes.set(xlabel="recall of the candidate copies", ylabel="precision", xlim=(0, 1), ylim=(0.5, 1.005))
    axes.legend(loc="lower left", fontsize=8)
    _save(figure, path, title)


def _draw_histogram(pairs: ScoredPairs, accept: float, path: Path, title: str) -> None:
    figure, axes = plt.subplots(figsize=_SIZE)
    bins = np.linspace(0, 1, 51)
    for label, mask in (("different", ~pairs.is_copy), ("copies", pairs.is_copy)):
        axes.hist(pairs.scores[mask], bins=bins, alpha=0.6, label=label)
    axes.axvline(accept, color="k", linewidth=0.8, linestyle="--", label=f"accept {accept:.3f}")
    axes.set(xlabel="score", ylabel="pairs", yscale="log")
    axes.legend(fontsize=8)
    _save(figure, path, title)


def _draw_reliability(pairs: ScoredPairs, path: Path, title: str) -> None:
    figure, axes = plt.subplots(figsize=_SIZE)
    bins = reliability(pairs.scores, pairs.is_copy)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
    axes.plot(bins.predicted, bins.observed, marker="o", linewidth=1.2)
    axes.set(xlabel="predicted probability", ylabel="share of copies", xlim=(0, 1), ylim=(0, 1))
    _save(figure, path, title)


def _draw_families(families: Mapping[str, Share], path: Path, title: str) -> None:
    shown = sorted(families.items(), key=lambda item: item[1].share)
    figure, axes = plt.subplots(figsize=(_SIZE[0], max(1.5, 0.25 * len(shown))))
    axes.barh([name for name, _ in shown], [share.share for _, share in shown])
    axes.set(xlabel="recall of the candidate copies at accept", xlim=(0, 1))
    _save(figure, path, title)


def _save(figure: plt.Figure, path: Path, title: str) -> None:
    figure.axes[0].set_title(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=_DOTS_PER_INCH)
    plt.close(figure)
