"""`neardup compare`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import BadInputError
from stream.cli.context import AsJson, SignalName, Spool, of, spool_folder
from stream.cli.output import counted, line, note, show_json, step_bars, table

if TYPE_CHECKING:
    from clustering.comparison import PrecisionRecall
    from stream.bootstrap.sources import Columns
    from stream.comparing.compare import ComparedClusterings, SplitCluster

__all__ = ["compare"]

_STEPS = {"a": "reading A", "b": "reading B", "compare": "comparing"}


def compare(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="The measure, such as the old system.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What is measured, such as the new one.")],
    image_id: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="In files: the column with the ids; default: image_id. Twice: of A, of B."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            "--cluster",
            metavar="COLUMN",
            help="In files: the column with each image's head, or with any name of its cluster; default: head. "
            "Twice: of A, of B.",
        ),
    ] = None,
    only_common: Annotated[
        bool,
        typer.Option("--only-common", help="Leave out images that one side alone has, before anything is counted."),
    ] = False,
    examples: Annotated[
        int, typer.Option(metavar="N", min=0, max=1000, help="Name the N clusters of each side that differ most.")
    ] = 5,
    fail_below: Annotated[
        float | None, typer.Option(metavar="F1", min=0, max=1, help="Exit code 5 if BCubed F1 is lower than this.")
    ] = None,
    common_at_least: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", min=0, max=1, help="Exit code 5 if less of the images of A, or of B, is on both."
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The key for reading from a HOST:PORT; default: none, and none of our own."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The authorities that vouch for a HOST:PORT, as PEM; default: as for our own servers."
        ),
    ] = None,
    spool: Spool = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Compare the clusters of two systems: who is together with whom?

    A and B are each one of these:

        store, store:SIGNAL                  the running store of a signal, as of one moment

        HOST:PORT                            the storage server of another service

        FOLDER/manifests/NAME.json           a snapshot manifest; the folder may lie in S3

        FILE                                 Parquet, CSV or TSV of another system, or a folder of such files

    Measured are the images that both have. Precision is the share of what B puts together that A does too; recall is
    the share of what A puts together that B does too. Pairwise, every pair of images counts the same, so large clusters
    dominate. BCubed is a mean over images, each judged by its mates without itself: an image that is alone on both
    sides counts in neither mean.

    A cluster is equal if it has the same images on both sides. An image that one side alone has is no mate in any
    measure, but a cluster that has one is not equal, nor is an image a singleton beside one. With --only-common such
    images are left out altogether. Scores say nothing about images that are missing: for a script, --common-at-least
    does.

    Needs 200 MB of memory and about 150 bytes an image, and on disk 60 bytes a row and the ids.

    Examples:

        neardup compare /data/old/manifests/2026-11-01.json store

        neardup compare old.parquet store --image-id photo --cluster group --fail-below 0.98 --common-at-least 0.99

        neardup compare store other-host:17003 --json --examples 20
    """
    from stream.access import credentials_elsewhere
    from stream.comparing.compare import compare_clusterings
    from stream.comparing.sources import open_clustering
    from stream.errors import NotSoundError
    from stream.interrupts import interruptible

    settings = of(context).running()
    kept_in, elsewhere = spool_folder(spool), credentials_elsewhere(settings, key, ca_file)
    opened = [
        open_clustering(text, settings, signal, columns, kept_in, elsewhere)
        for text, columns in zip((a, b), _columns(image_id or [], head or []), strict=True)
    ]
    started = time.monotonic()
    with interruptible(), step_bars(_STEPS) as tell:
        found = compare_clusterings(opened[0], opened[1], kept_in, examples, only_common=only_common, on_progress=tell)
    took_s = time.monotonic() - started
    f1 = found.quality.bcubed.f1
    if as_json:
        show_json(_json(found, only_common, took_s))
    else:
        _show(found, only_common)
        note(f"{took_s:,.1f} s")
    low = []
    if fail_below is not None and f1 < fail_below:
        low.append(f"BCubed F1 is {f1:.6f}, lower than {fail_below:g}")
    if common_at_least is not None and found.common_share < common_at_least:
        low.append(f"{found.common_share:.6f} of the images of one side are on both, less than {common_at_least:g}")
    if low:
        raise NotSoundError("; ".join(low))


def _columns(image_ids: Sequence[str], heads: Sequence[str]) -> list[Columns]:
    """The names in files of A and of B."""
    from stream.bootstrap.sources import Columns

    for option, given in (("--image-id", image_ids), ("--head or --cluster", heads)):
        if len(given) > 2:
            raise BadInputError(f"give {option} once, or twice: for A and for B")
    defaults = Columns()
    ids, clusters = list(image_ids) or [defaults.image_id], list(heads) or [defaults.cluster]
    return [Columns(image_id=ids[side % len(ids)], cluster=clusters[side % len(clusters)]) for side in range(2)]


def _show(found: ComparedClusterings, only_common: bool) -> None:
    for letter, side in (("A", found.a), ("B", found.b)):
        line(f"{letter}: {side.name}{f', {side.moment}' if side.moment else ''}")
    names = ("images", "only here", "clusters", "singletons")
    columns = [(side.images, side.only_here, side.clusters, side.singletons) for side in (found.a, found.b)]
    rows = [(name, f"{one:,}", f"{two:,}") for name, one, two in zip(names, *columns, strict=True)]
    table(("", "A", "B"), rows, right=("A", "B"))
    measures = (("BCubed", found.quality.bcubed), ("pairwise", found.quality.pairwise))
    scores = [(name, *(f"{each:.6f}" for each in _scores(measured))) for name, measured in measures]
    table(("", "precision", "recall", "F1"), scores, right=("precision", "recall", "F1"))
    left_out = ", all others left out" if only_common else ""
    line(f"{counted(found.common, 'image')} on both sides{left_out}, {counted(found.equal, 'cluster')} exactly equal")
    line(f"{counted(found.lost_pairs, 'pair')} of A lost in B, {counted(found.gained_pairs, 'pair')} gained")
    for letter, other, splits in (("A", "B", found.lost), ("B", "A", found.gained)):
        for each in splits:
            _show_split(each, letter, other)


def _show_split(split: SplitCluster, letter: str, other: str) -> None:
    parts = ", ".join(f"{images:,} in {cluster!r}" for cluster, images in split.parts)
    more = split.part_count - len(split.parts)
    apart = f"{counted(split.pairs, 'pair')} of {counted(split.images, 'image')}"
    line("")
    line(f"cluster {split.cluster!r} of {letter}: {apart} not together in {other}: {parts}{_more(more, 'cluster')}")
    for member in split.members:
        line(f"    {member.image_id!r}: {member.a!r} in A, {member.b!r} in B")
    if split.images > len(split.members):
        line(f"    and {counted(split.images - len(split.members), 'other image')}")


def _more(count: int, noun: str) -> str:
    return f", and {counted(count, f'other {noun}')}" if count else ""


def _scores(measured: PrecisionRecall) -> tuple[float, float, float]:
    return measured.precision, measured.recall, measured.f1


def _json(found: ComparedClusterings, only_common: bool, took_s: float) -> dict[str, Any]:
    quality = found.quality

    def scores(measured: PrecisionRecall) -> dict[str, float]:
        return dict(zip(("precision", "recall", "f1"), _scores(measured), strict=True))

    def split(each: SplitCluster) -> dict[str, Any]:
        parts = [{"cluster": cluster, "images": images} for cluster, images in each.parts]
        return {**asdict(each), "parts": parts}

    return {
        "a": asdict(found.a),
        "b": asdict(found.b),
        "only_common": only_common,
        "common": found.common,
        "common_share": found.common_share,
        "bcubed": scores(quality.bcubed),
        "pairwise": scores(quality.pairwise),
        "equal_clusters": found.equal,
        "lost_pairs": found.lost_pairs,
        "gained_pairs": found.gained_pairs,
        "lost": [split(each) for each in found.lost],
        "gained": [split(each) for each in found.gained],
        "seconds": round(took_s, 3),
    }
