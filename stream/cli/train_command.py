"""`neardup train`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import line, progress_bar, show_json

if TYPE_CHECKING:
    from scoring.card import ModelCard

__all__ = ["train"]


def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Labelled images with their embeddings: a Parquet file or a folder. Default: the sample.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A fifth of the steps: under three minutes with the sample on two cores.")
    ] = False,
    large: Annotated[
        bool,
        typer.Option(
            "--large",
            help="Train a network of 10 million parameters too (NAME-large), and distil the compact one from it.",
        ),
    ] = False,
    fit_projection: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Learn the projection of the score codes too, and write it here at the end. To use it, change "
            "`projection` and `model` in the settings together, and build a new index.",
        ),
    ] = None,
    leave_one_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-out",
            help="Choose `accept` on data sets that are left out of training, each in turn. Needs --fit-projection.",
        ),
    ] = False,
    splits_of: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="Groups in this file keep the splits that they have there."),
    ] = None,
    train_on_test: Annotated[
        bool,
        typer.Option(
            "--train-on-test",
            help="Train on the test split too, except for the groups of --splits-of: for the final model, once a run "
            "without it has shown how good it is.",
        ),
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet",
            help="Labels of pairs from `neardup label`: groups of duplicates are merged, other pairs are ignored.",
        ),
    ] = None,
    thresholds_of: Annotated[
        str,
        typer.Option(
            metavar="VERSION",
            help="Train nothing: choose the thresholds and the gate of this version anew, as a new version. For other "
            "candidates (`[signals.NAME.terms]`), other data or another --precision.",
        ),
    ] = "",
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the version here. Default: the signal's model folder."),
    ] = None,
    name: Annotated[
        str,
        typer.Option("--version", metavar="NAME", help="Name of the version. Default: derived from settings and data."),
    ] = "",
    serve: Annotated[bool, typer.Option(help="Serve the new version; a running scorer switches to it at once.")] = True,
    precision: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.9999,
            help="Precision that `accept` guarantees over the candidates of a search (lower bound).",
        ),
    ] = 0.99,
    corpus_growth: Annotated[
        float,
        typer.Option(
            metavar="FACTOR",
            min=1.0,
            help="How many times larger than these images the corpus in service will be: `accept` gets stricter.",
        ),
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Train the classifier on labelled images, and write it as a new version with its thresholds.

    Columns: image_id, group_id (images of one group are copies of one another), search, score. Optional columns: split
    (train, val or test), source_id, kind, family, ignore_group, dataset. In a folder, index.parquet has the labels;
    search_f16.npy and score_f16.npy have the vectors. The network is trained on the split train, thresholds are chosen
    on val, and test is only measured. If no image has a split, groups get one by their names. Pairs in the folder's
    same_scene_pairs.csv and natural_pairs.csv (columns a and b: image ids) are never trained on.

    A version never changes: a name that exists already is refused before training starts.

    Examples:

        neardup train --quick

        neardup train labelled.parquet --model models/photos --no-serve

        neardup train photos/ --fit-projection var/projection.npz --model var/model --large

        neardup train photos/ --thresholds-of pair-7dd155a834
    """
    from stream.demo.sample import SAMPLE
    from stream.hashing import code_embedding, code_settings, term_settings
    from training.named_pairs import read_pairs
    from training.preparation import check_in_use, prepare
    from training.training_settings import DEFAULT_SEED, FULL, LARGE, QUICK, TrainSettings

    settings = of(context).settings()
    _, chosen = settings.signal(signal)
    photos, own = data or settings.path(SAMPLE), settings.path(chosen.model)
    # TensorFlow takes seconds to load, so everything that can be checked without it is checked first.
    terms = term_settings(settings, chosen)
    if fit_projection is None:
        code = code_settings(settings, chosen)
    else:  # the projection that the settings name need not exist yet
        bits_alone = chosen.model_copy(update={"code": chosen.code.model_copy(update={"projection": None})})
        code = replace(code_settings(settings, bits_alone), search_dimension=chosen.search_embedding.dimension)
    embedding_name, embedding_version = code_embedding(chosen, code)
    never = ("same_scene_pairs.csv", "natural_pairs.csv") if photos.is_dir() else ()
    wanted = TrainSettings(
        photos=photos,
        model=model or own,
        terms=terms,
        code=code,
        ranking=chosen.terms.ranking,
        embedding_name=embedding_name,
        embedding_version=embedding_version,
        effort=QUICK if quick else FULL,
        large=LARGE if large else None,
        fit_projection=fit_projection,
        leave_one_out=leave_one_out,
        splits_of=splits_of,
        train_on_test=train_on_test,
        labels=labels,
        never_train=tuple(pair for file in never for pair in read_pairs(photos / file)),
        thresholds_of=thresholds_of,
        version=name,
        serve=serve,
        precision=precision,
        corpus_growth=corpus_growth,
        seed=DEFAULT_SEED if seed is None else seed,
    )
    prepare(wanted)
    check_in_use(wanted, own, None if chosen.code.projection is None else settings.path(chosen.code.projection))
    # Its messages while it loads (no graphics card, instruction sets) do not help the user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training.train import train as train_model

    with progress_bar() as bar:
        task = bar.add_task("training", total=100, note="")
        cards = train_model(wanted, lambda share, text: bar.update(task, completed=round(100 * share), note=text))
    if as_json:
        from dataclasses import asdict

        show_json([asdict(card) for card in cards])
        return
    for card in cards:
        _show(card, wanted.model, served=serve and card is cards[0])


def _show(card: ModelCard, folder: Path, *, served: bool) -> None:
    line(f"version     {card.version}, in {folder}" + (", served" if served else ""))
    limits = card.thresholds
    line(f"thresholds  accept {limits.accept:.4f}, head_accept {limits.head_accept:.4f}, adopt {limits.adopt:.4f}")
    line(f"gate        {'none' if card.gate is None else card.gate}")
    for name, value in card.metrics.items():
        line(f"{name.replace('_', ' '):<40}{value:,.4f}")
