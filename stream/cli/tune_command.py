"""`neardup tune`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.context import AsJson, CommandContext, SignalName, of
from stream.cli.output import line, note, progress_bar, show_json, table

if TYPE_CHECKING:
    from search.tuning.choose import RatedChoice
    from stream.term_tuning.tune import Tuning

__all__ = ["tune"]

_COLUMNS = (
    "",
    "groups",
    "bits each",
    "min overlap",
    "depth",
    "k",
    "copies found",
    "postings",
    "codes compared",
    "pairs scored",
    "ms",
    "bytes",
)
_SHOWN = 8
"""Choices of the curve that are printed."""


def tune(
    context: typer.Context,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Images with both embeddings: a Parquet file, or a folder with index.parquet, search_f16.npy and"
            " score_f16.npy. Default: the photos of the sample.",
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Which images are copies: CSV or Parquet with columns a and b, or image_id and group_id."
            " Default: the file of the embeddings.",
        ),
    ] = None,
    recall: Annotated[float, typer.Option(help="The share of pairs of copies that searches must find.")] = 0.95,
    images: Annotated[int, typer.Option(min=1, help="The number of images to plan for.")] = 1_000_000,
    max_ms: Annotated[
        float,
        typer.Option(min=0.01, help="The most that one image may cost, in milliseconds of one core."),
    ] = 5.0,
    keep_terms: Annotated[
        bool, typer.Option("--keep-terms", help="Keep groups and bits, so that the index need not be built again.")
    ] = False,
    plots: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The folder for the plots. Default: tune/ in the data folder.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the choice into the settings file.")] = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Choose the cheapest terms, depth and k that find enough copies, for an index of a given size.

    Measures on a sample how often strangers and copies share terms and how near their codes are, predicts recall and
    cost of each choice, checks the chosen one on the sample, and draws the curve (PNG). An index only works with the
    groups and bits that it was made for: after --write of others, build it again (neardup index build). Depth and k
    hold from the next start of the search server.

    Examples:

        neardup tune

        neardup tune --embeddings photos.parquet --pairs copies.csv --recall 0.9 --images 5000000 --write

        neardup tune --embeddings photos.parquet --images 5000000 --keep-terms
    """
    from search.tuning.choose import Grid
    from search.tuning.cost import CostModel
    from stream.demo.sample import SAMPLE
    from stream.hashing import code_settings, term_settings
    from stream.term_tuning.inputs import read_embeddings, read_pairs
    from stream.term_tuning.plots import draw_curve, draw_overlap
    from stream.term_tuning.tune import CurrentSettings, TuningGoal
    from stream.term_tuning.tune import tune as tune_terms

    goal = TuningGoal(images, recall, CostModel(max_image_us=max_ms * 1000))
    settings = of(context).settings()
    name, chosen = settings.signal(signal)
    now = CurrentSettings(term_settings(settings, chosen), code_settings(settings, chosen), chosen.terms.ranking)
    source = embeddings or settings.path(SAMPLE)
    read = read_embeddings(source, now.terms.dimension, now.code.dimension)
    copies = read_pairs(pairs or source, read.image_ids)
    grid = Grid().with_terms(now.choice) if keep_terms else Grid()
    with progress_bar() as bar:
        task = bar.add_task("trying", total=None, note="groupings of the bits")
        tuning = tune_terms(
            now, read, copies, goal, grid, lambda done, of_all: bar.update(task, completed=done, total=of_all)
        )
    folder = plots or settings.data_dir / "tune"
    draw_curve(folder / "curve.png", tuning, recall)
    draw_overlap(folder / "overlap.png", now.terms, read, copies, tuning)
    written = _write(of(context), name, tuning) if write else None
    if as_json:
        show_json(_as_json(tuning, recall, folder, written))
        return
    _show(tuning, recall)
    line("")
    line(f"plots: {folder / 'curve.png'}, {folder / 'overlap.png'}")
    if written is not None:
        line(f"written to {written}; {_next_step(tuning)}")


def _write(context: CommandContext, name: str, tuning: Tuning) -> Path:
    from search.ranking import Order
    from stream.settings import DEFAULT_SETTINGS_FILE, SETTINGS_FILE_VARIABLE
    from stream.settings_writer import write_values

    named = os.environ.get(SETTINGS_FILE_VARIABLE, DEFAULT_SETTINGS_FILE)
    path = context.settings_file or Path(named)
    chosen = tuning.recommendation.chosen
    choice, density = chosen.choice, chosen.prediction.density
    ranking = choice.ranking
    depth = {"depth": ranking.depth} if ranking.order is Order.DISTANCE else {}
    write_values(
        path,
        {
            f"signals.{name}.terms": {
                "groups": choice.groups,
                "bits_per_group": choice.bits_per_group,
                "min_overlap": ranking.min_overlap,
                "candidates": ranking.candidates,
                **depth,
            },
            f"signals.{name}.density": {
                "images": density.images,
                "unrelated_postings": density.unrelated_postings,
                "copy_postings": density.copy_postings,
            },
        },
    )
    overriding = sorted(key for key in os.environ if key.upper().startswith(f"NEARDUP_SIGNALS__{name.upper()}__TERMS"))
    if overriding:
        note(f"these environment variables still override the file: {', '.join(overriding)}", style="yellow")
    return path


def _next_step(tuning: Tuning) -> str:
    chosen, now = tuning.recommendation.chosen.choice, tuning.current.choice
    if (chosen.groups, chosen.bits_per_group) == (now.groups, now.bits_per_group):
        return "groups and bits are as before: the index serves on, restart its server (neardup up)"
    return "now build the index again for these terms (neardup index build)"


def _show(tuning: Tuning, recall: float) -> None:
    found = tuning.recommendation
    line(f"{tuning.sample.images:,} images compared, {len(tuning.sample.asked.query):,} pairs of copies asked for")
    line("")
    table(
        ("bits in a group", "strangers agree", "above chance", "copies agree"),
        (
            (each.bits_per_group, f"{each.strangers:.3g}", f"{each.above_chance:.2f} x", f"{each.copies:.3f}")
            for each in tuning.density
        ),
        right=("bits in a group", "strangers agree", "above chance", "copies agree"),
    )
    line("")
    step = max(1, len(found.frontier) // _SHOWN)
    rows = [("", one) for one in found.frontier[::step]]
    table(
        _COLUMNS,
        (_row(mark, one) for mark, one in [*rows, ("now", tuning.current), ("chosen", found.chosen)]),
        right=_COLUMNS[1:],
    )
    line("")
    for reason in _reasons(tuning, recall):
        line(reason)


def _reasons(tuning: Tuning, recall: float) -> tuple[str, str]:
    found, images = tuning.recommendation, tuning.recommendation.chosen.prediction.images
    got = found.chosen.prediction.recall
    why = (
        f"the cheapest settings that find {recall:.0%} of the copies among {images:,} images (they find {got:.1%})"
        if found.reached
        else f"no affordable choice finds {recall:.0%} of the copies among {images:,} images; these do best: {got:.1%}"
    )
    return (
        f"chosen: {why}",
        f"checked on the sample itself: predicted {tuning.predicted_on_sample:.1%},"
        f" counted {tuning.measured_on_sample:.1%}",
    )


def _row(mark: str, one: RatedChoice) -> tuple[object, ...]:
    from search.ranking import Order

    choice, prediction, cost = one.choice, one.prediction, one.cost
    return (
        mark,
        choice.groups,
        choice.bits_per_group,
        choice.ranking.min_overlap,
        choice.ranking.depth if choice.ranking.order is Order.DISTANCE else "",
        choice.ranking.candidates,
        f"{prediction.recall:.3f}",
        f"{prediction.postings:,.0f}",
        f"{prediction.compared:,.0f}",
        f"{prediction.found:,.0f}",
        f"{cost.image_us / 1000:.2f}",
        f"{cost.image_bytes:,.0f}",
    )


def _as_json(tuning: Tuning, recall: float, folder: Path, written: Path | None) -> dict[str, Any]:
    from dataclasses import asdict

    found = tuning.recommendation
    return {
        "recall_wanted": recall,
        "reached": found.reached,
        "chosen": asdict(found.chosen),
        "now": asdict(tuning.current),
        "frontier": [asdict(one) for one in found.frontier],
        "density": [asdict(each) for each in tuning.density],
        "recall_on_sample": {"predicted": tuning.predicted_on_sample, "counted": tuning.measured_on_sample},
        "reason": "\n".join(_reasons(tuning, recall)),
        "pictures": [str(folder / "curve.png"), str(folder / "overlap.png")],
        "written": None if written is None else str(written),
    }
