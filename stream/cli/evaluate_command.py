"""`neardup evaluate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import BadInputError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import line, note, progress_bar, show_json, table

if TYPE_CHECKING:
    from scoring.card import ModelCard
    from training.judging import Judged

__all__ = ["evaluate"]

_SEED = 20_240_503
"""Seed of the orders of the simulated streams."""


def evaluate(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Labelled images with their embeddings: a folder or a Parquet file, as for `train`."
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="VERSION", help="The version to evaluate. Default: the served one.")
    ] = "",
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Count only images of this split. Default: all images.")
    ] = "",
    splits_of: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="Groups in this file keep the splits that they have there."),
    ] = None,
    orders: Annotated[int, typer.Option(min=1, max=100, help="Random orders of the simulated stream.")] = 5,
    plots: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Draw curves and histograms here.")] = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a classifier on labelled photographs, under the conditions of service.

    Columns: image_id, group_id, search, score. Optional columns: split, source_id, kind, family, ignore_group, dataset.
    In a folder, index.parquet has the labels; search_f16.npy and score_f16.npy have the vectors. Pairs in the folder's
    same_scene_pairs.csv (different things that look alike) and natural_pairs.csv (copies that nobody edited) are also
    reported apart; both files have the columns a and b with image ids.

    All photographs are searched among each other and streamed together, in several random orders. With --split, only
    pairs and images of that split count. Without it, all images count, also those that the model was trained on; then a
    note says so. The report has the recall at precision 0.99 over the candidates of the search, and the share of all
    copies that are candidates (found by search) or found at that precision; precision and recall at the model's
    `accept` (also per kind of edit and data set); the expected calibration error of the scores; and how well the
    streamed clusters agree with the labels (pairwise and self-excluded BCubed). Candidates beyond the model's gate have
    the score 0.

    Examples:

        neardup evaluate photos/ --json

        neardup evaluate photos/ --split test --plots var/plots
    """
    from stream.hashing import code_identity, code_settings, term_settings

    settings = of(context).settings()
    _, chosen = settings.signal(signal)
    from training.labelled import check_photos, data_sha256, keep_splits, read_photos

    check_photos(folder)
    terms, code, ranking = term_settings(settings, chosen), code_settings(settings, chosen), chosen.terms.ranking
    # Messages of TensorFlow while it loads (no graphics card, instruction sets) do not help the user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import numpy as np

    from scoring.model import model_class
    from scoring.model_folder import ModelFolder
    from training.judging import judge_clusters, judge_pairs, score_pairs
    from training.named_pairs import read_pairs
    from training.validation import Streams

    models = ModelFolder(settings.path(chosen.model))
    loaded = models.load(model or models.served(), model_class(chosen.model_class))
    code_identity(settings, chosen).check(loaded.card)
    if split in ("", "train") and loaded.card.training_sha256 == data_sha256(folder):
        note(
            f"{loaded.card.version} was trained on these images, so its results are too good: --split test counts only "
            "images that it never saw (with the same --splits-of as in training, if there was one)"
        )
    photos = read_photos(folder, terms.dimension, code.dimension)
    if splits_of is not None:
        photos = keep_splits(photos, splits_of)
    counted = photos.split == split if split else np.ones(len(photos), dtype=bool)
    if not counted.any():
        found = ", ".join(np.unique(photos.split).tolist()) or "no images"
        raise BadInputError(f"{folder} has no image of the split {split!r}; it has {found}")
    with progress_bar() as bar:
        task = bar.add_task("evaluating", total=100, note="ranking candidates")
        every = Streams(
            photos, terms, ranking, code, _SEED, lambda share: bar.update(task, completed=round(40 * share))
        )
        streams = every.gated(loaded.card.gate)
        codes = code.build().codes(photos.score, photos.search)
        bar.update(task, completed=45, note="scoring pairs")
        pairs = score_pairs(counted, streams, codes, loaded.score)
        scene, natural = (
            read_pairs(folder / f"{name}_pairs.csv") if folder.is_dir() else () for name in ("same_scene", "natural")
        )
        judged = judge_pairs(photos, counted, pairs, loaded.card.thresholds.accept, scene, natural)
        bar.update(task, completed=55, note="streaming")
        clusters = judge_clusters(
            counted,
            streams,
            codes,
            loaded.score,
            loaded.card.thresholds,
            orders,
            lambda share: bar.update(task, completed=55 + round(45 * share)),
        )
    if plots is not None:
        from training.plots import draw_all

        of_split = f"pairs of the split {split}" if split else "all pairs"
        draw_all(pairs, judged.families, loaded.card.thresholds.accept, loaded.card.version, plots, of_split)
    report = {
        **_report(judged, clusters, loaded.card, int(counted.sum()), len(photos), orders),
        "ranking": ranking.describe(),
        "pairs_beyond_gate": int(streams.beyond_gate(pairs.left, pairs.right).sum()),
    }
    if as_json:
        show_json(report)
        return
    _show(report)


def _report(
    judged: Judged, clusters: dict[str, float], card: ModelCard, counted: int, images: int, orders: int
) -> dict[str, Any]:
    """What `--json` prints."""
    limits = card.thresholds
    numbers = {
        "precision_at_accept": judged.precision_at_accept,
        "recall_at_accept": judged.recall_at_accept,
        "recall_at_precision_0.99": judged.recall_at_precision,
        "average_precision": judged.average_precision,
        "calibration_error": judged.calibration_error,
        **clusters,
        "found_by_search": judged.found_by_search,
        "found_at_precision_0.99": judged.found_at_precision,
        "recall_at_precision_0.99_without_same_scene": judged.recall_at_precision_without_same_scene,
    }
    return {
        **{name: round(value, 5) for name, value in numbers.items()},
        "model": card.version,
        "thresholds": {"accept": limits.accept, "head_accept": limits.head_accept, "adopt": limits.adopt},
        "gate": card.gate,
        "images": images,
        "images_counted": counted,
        "pairs": judged.pairs,
        "copies": judged.copies,
        "orders": orders,
        "families": judged.by_family(),
        "datasets": judged.by_dataset(),
        "same_scene": {"pairs": judged.same_scene.of, "wrongly_accepted": judged.same_scene.taken},
        "natural": {"pairs": judged.natural.of, "accepted": judged.natural.taken},
    }


def _show(report: dict[str, Any]) -> None:
    line(f"model {report['model']}, {report['images_counted']:,} of {report['images']:,} images counted")
    gate = "" if report["gate"] is None else f"; {report['pairs_beyond_gate']:,} beyond the gate {report['gate']}"
    line(f"{report['pairs']:,} candidate pairs, {report['copies']:,} of copies{gate}")
    line("")
    for name, value in report.items():
        if isinstance(value, float):
            line(f"{name.replace('_', ' '):<46}{value:.4f}")
    line("")
    _show_parts("kind of edit", report["families"])
    line("")
    _show_parts("data set", report["datasets"])
    line("")
    scene, natural = report["same_scene"], report["natural"]
    line(f"different things in one scene: {scene['wrongly_accepted']} of {scene['pairs']} pairs wrongly accepted")
    line(f"natural copies: {natural['accepted']} of {natural['pairs']} accepted")


def _show_parts(title: str, parts: dict[str, dict[str, float]]) -> None:
    """A table with a row per part; counts as whole numbers, shares with three digits."""
    columns = [column.replace("_", " ") for column in next(iter(parts.values()), {})]
    rows = [
        (name, *(f"{value:.3f}" if isinstance(value, float) else value for value in results.values()))
        for name, results in parts.items()
    ]
    table((title, *columns), rows, right=columns)
