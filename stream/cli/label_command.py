"""`neardup label` and `neardup label-tree`: labels for training, from the geometry of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import BadInputError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, note, progress_bar, show_json, table

if TYPE_CHECKING:
    from search.hashing.terms import TermSettings
    from search.ranking import Ranking
    from training.labelling.decision import DecisionTree
    from training.labelling.labels import Label
    from training.labelling.training import Agreement

__all__ = ["label", "label_tree"]


def label(
    context: typer.Context,
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PICTURES...]",
            help="Two picture files, or one folder of pictures. Not needed if --pairs names files.",
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Label only these pairs: CSV or Parquet with image_a and image_b, each an image id of the folder or "
            "the path of a picture (absolute, or relative to this file).",
        ),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet",
            help="Label the candidates of the term search: Parquet with image_id and search.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="Write the labels here; required for more than one pair."),
    ] = None,
    tree: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="The decision tree. Default: the built-in one.")
    ] = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Label pairs of pictures as near-duplicates or different, by local features and geometry.

    Pictures are files with the endings .jpg, .jpeg, .png, .webp, .bmp, .tif and .tiff, directly in the folder;
    other files are ignored. All pairs of a folder are labelled (up to 100,000), or only those of --pairs, or only
    the candidates of the term search (--embeddings). The image id of a picture is its file name without the ending.
    For `neardup train --labels` it must equal the image_id of the labelled images. The file --out has the columns
    image_a, image_b, label (1 near-duplicates, 0 different, empty if a picture cannot be read or has too little
    structure) and the features of the geometry.

    Examples:

        neardup label one.jpg other.jpg

        neardup label examples/photos/demo --out labels.parquet

        neardup label --pairs pairs.csv --out labels.parquet
    """
    from core.blas import use_one_blas_thread
    from training.labelling.decision import BUILT_IN, read_tree

    use_one_blas_thread()
    decides, pictures = read_tree(tree or BUILT_IN), pictures or []
    if len(pictures) == 2:
        if pairs or embeddings or out:
            raise BadInputError("--pairs, --embeddings and --out are for many pairs, not for two pictures")
        _label_two(pictures[0], pictures[1], decides, as_json)
        return
    if len(pictures) > 1 or (not pictures and pairs is None):
        found = counted(len(pictures), "path")
        raise BadInputError(f"name two picture files, one folder, or a file of --pairs, not {found}")
    if pairs is not None and embeddings is not None:
        raise BadInputError("--pairs and --embeddings both choose the pairs: give one of them")
    if out is None:
        raise BadInputError("labels of many pairs need a file: --out FILE.parquet")
    search = None
    if embeddings is not None:
        from stream.hashing import term_settings

        settings = of(context).settings()
        _, chosen = settings.signal(signal)
        search = embeddings, term_settings(settings, chosen), chosen.terms.ranking
    _label_many(*_chosen_pairs(pictures[0] if pictures else None, pairs, search), out, decides, as_json)


def label_tree(
    labels: Annotated[
        Path,
        typer.Argument(metavar="LABELS.csv", help="CSV with the columns file (relative to it), source_id and family."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="Write the tree here.")],
    depth: Annotated[int, typer.Option(metavar="N", min=1, max=12, help="Depth of the tree, at most.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Train the decision tree of `neardup label` on pictures whose originals are known.

    Pictures with the same source_id are copies of one photograph. The command makes more copies (rotated, mirrored,
    tilted, ...), and pairs of different photographs with the same caption, logo or frame. It shows how many labels
    agree with the known ones, for photographs that the tree was not trained on.

    Example:

        neardup label-tree examples/photos/demo/demo.csv --out tree.json
    """
    from core.blas import use_one_blas_thread
    from training.labelling.decision import write_tree
    from training.labelling.training import cross_validate, measured_pairs, read_labelled, train_tree

    use_one_blas_thread()
    pictures = read_labelled(labels)
    with progress_bar() as bar:
        task = bar.add_task("matching", total=None, note="")
        found = measured_pairs(pictures, lambda done, total: bar.update(task, completed=done, total=total))
    agreements = cross_validate(found, depth=depth)
    made = train_tree(found, depth)
    write_tree(made, out)
    if as_json:
        show_json({"tree": str(out), "nodes": len(made.nodes), "agreement": [asdict(one) for one in agreements]})
        return
    table(
        ("pairs of", "duplicates", "pairs", "agreeing"),
        [_agreement_row(one) for one in agreements],
        right=("pairs", "agreeing"),
    )
    line(f"{out}: {counted(len(made.nodes), 'node')}, from {counted(len(found), 'pair')}")


def _agreement_row(one: Agreement) -> tuple[object, ...]:
    return one.kind, "yes" if one.duplicate else "no", one.pairs, one.agreeing


def _label_two(first: Path, second: Path, tree: DecisionTree, as_json: bool) -> None:
    from training.labelling.labels import label_pairs

    (found,) = label_pairs([("a", "b")], {"a": first, "b": second}, tree)
    if found.verification is None:
        raise BadInputError(found.problem or "a picture cannot be read")
    if as_json:
        show_json(_verdict(found))
        return
    if found.duplicate is None:
        line(f"cannot tell: {found.problem}")
        return
    mirrored = ", mirrored" if found.duplicate and found.verification.mirrored else ""
    line(f"{'near-duplicates' if found.duplicate else 'different'}{mirrored} (probability {found.probability:.3f})")
    for name, value in asdict(found.verification).items():
        line(f"{name:<16}{value:10.3f}")


def _verdict(found: Label) -> dict[str, Any]:
    features = asdict(found.verification) if found.verification else None
    return {
        "duplicate": found.duplicate,
        "probability": found.probability,
        "problem": found.problem,
        "features": features,
    }


def _chosen_pairs(
    folder: Path | None, listed: Path | None, search: tuple[Path, TermSettings, Ranking] | None
) -> tuple[list[tuple[str, str]], Mapping[str, Path]]:
    """The listed pairs, or the candidates of the term search, or all pairs of the folder; and the picture files."""
    from training.labelling.pair_list import all_pairs, listed_pairs, pictures_of, proposed_pairs

    images = {} if folder is None else pictures_of(folder, _say_skipped)
    if listed is not None:
        return listed_pairs(listed, images)
    if search is not None:
        return proposed_pairs(list(images), *search), images
    return list(all_pairs(list(images))), images


def _say_skipped(path: Path) -> None:
    note(f"skipped: the name of {os.fsencode(path.name)!r} is not UTF-8")


def _label_many(
    pairs: list[tuple[str, str]], images: Mapping[str, Path], out: Path, tree: DecisionTree, as_json: bool
) -> None:
    from training.labelling.labels import label_pairs, write_labels

    with progress_bar() as bar:
        task = bar.add_task("labelling", total=len(pairs), note="")
        shown = _shown(label_pairs(pairs, images, tree), lambda: bar.advance(task))
        duplicates, different, unknown = write_labels(shown, out)
    if as_json:
        show_json(
            {
                "labels": str(out),
                "pairs": len(pairs),
                "duplicates": duplicates,
                "different": different,
                "unreadable": unknown,
            }
        )
        return
    line(f"{out}: {counted(duplicates, 'pair')} of near-duplicates, {different:,} different")
    if unknown:
        note(f"{counted(unknown, 'pair')} without a label (the column problem says why)")


def _shown(labels: Iterable[Label], tick: Any) -> Iterator[Label]:
    for one in labels:
        yield one
        tick()
