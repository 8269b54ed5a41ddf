"""`neardup train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.errors import BadInputError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import line, progress_bar, show_json

if TYPE_CHECKING:
    from search.scoring.card import ModelCard

__all__ = ["train"]


def train(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE.parquet", help="Labelled images with their embeddings; the sample without it."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few minutes of training, enough for the sample.")] = False,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the version goes; the signal's model folder without it."),
    ] = None,
    name: Annotated[
        str,
        typer.Option("--version", metavar="NAME", help="Name of the version; made from settings and data without it."),
    ] = "",
    serve: Annotated[
        bool, typer.Option(help="Make the new version the one that is served; a running scorer takes it at once.")
    ] = True,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Train the classifier on labelled images, and write it as a new version with its thresholds.

    Columns: image_id, group_id (images of one group are copies of one another), split (train, val or test), search,
    score; optional are kind, family and ignore_group. Training sees the groups of train, thresholds are chosen on those
    of val, test is only measured.

    Examples:

        neardup train --quick

        neardup train labelled.parquet --model models/photos --no-serve
    """
    from stream.demo.sample import SAMPLE
    from stream.hashing import code_settings, term_settings

    settings = of(context).settings()
    _, chosen = settings.signal(signal)
    photos = file or settings.path(SAMPLE)
    if not photos.is_file():
        raise BadInputError(f"there is no file {photos}")

    # TensorFlow takes seconds to load: whatever can be wrong before, is found before.
    terms, code = term_settings(settings, chosen), code_settings(settings, chosen)
    # What it says while it loads (no graphics card, other instructions) is nothing to the user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from search.scoring.train import FULL, QUICK, TrainSettings
    from search.scoring.train import train as train_model

    with progress_bar() as bar:
        task = bar.add_task("training", total=100, note="")
        card = train_model(
            TrainSettings(
                photos=photos,
                model=model or settings.path(chosen.model),
                terms=terms,
                code=code,
                embedding_name=chosen.score_embedding.name,
                embedding_version=chosen.score_embedding.model_version,
                effort=QUICK if quick else FULL,
                version=name,
                serve=serve,
            ),
            lambda share, text: bar.update(task, completed=round(100 * share), note=text),
        )
    if as_json:
        from dataclasses import asdict

        show_json(asdict(card))
        return
    _show(card, model or settings.path(chosen.model), served=serve)


def _show(card: ModelCard, folder: Path, *, served: bool) -> None:
    line(f"version     {card.version}, in {folder}" + (", served" if served else ""))
    limits = card.thresholds
    line(f"thresholds  accept {limits.accept:.4f}, head_accept {limits.head_accept:.4f}, adopt {limits.adopt:.4f}")
    for name, value in card.metrics.items():
        line(f"{name.replace('_', ' '):<40}{value:,.4f}")
