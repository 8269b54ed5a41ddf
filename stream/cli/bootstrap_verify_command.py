"""`neardup bootstrap verify`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import BadInputError, UnavailableError
from stream.cli.context import AsJson, SignalName, Spool, of, spool_folder
from stream.cli.output import counted, line, note, show_first, show_json, step_bars, table
from stream.errors import NotSoundError

if TYPE_CHECKING:
    from stream.bootstrap.row_differences import Explained
    from stream.bootstrap.verification import VerifiedManifest

__all__ = ["verify"]


def verify(
    context: typer.Context,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder, or s3://BUCKET/PREFIX.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The manifest, a snapshot or a delta.")],
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Compare about N embeddings, and N images with the index, always the same ones; default: 10,000.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Compare all embeddings, and all images with the index.")
    ] = False,
    spool: Spool = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Compare every row of a manifest that was loaded with the running service.

    Every image must be in storage, in the version of its row and with its head, its embeddings must be those of the
    row, and the index must have it where storage has it. Rows, images and clusters are counted, and compared with what
    both servers say that they loaded.

    The service goes on after a load: images get new versions, move, and are deleted. Such differences are counted by
    what has made them, with a few examples, and are no fault. Everything else is listed by file and row, and the
    command ends with exit code 5.

    Examples:

        neardup bootstrap verify /data/old 2026-11-01

        neardup bootstrap verify s3://photos/old first --all --json
    """
    if everything and sample is not None:
        raise BadInputError("give --sample or --all, not both")
    from core.access import Right
    from manifests.folder import open_folder, read_manifest
    from manifests.manifest import SUFFIX
    from search.serving.admission import Caller
    from stream.bootstrap.loading import servers
    from stream.bootstrap.signal import load_signal
    from stream.bootstrap.verification import DEFAULT_SAMPLE, STEPS, ManifestSource, verify_manifest
    from stream.interrupts import interruptible

    settings = of(context).running()
    opened, name = open_folder(folder), name.removesuffix(SUFFIX)
    manifest = read_manifest(opened, f"{name}{SUFFIX}")
    source = ManifestSource(opened, manifest, load_signal(settings, signal), spool_folder(spool))
    size = None if everything else sample or DEFAULT_SAMPLE
    started = time.monotonic()
    with (
        interruptible(),
        servers(settings, signal, Right.READ, Caller.SHADOW) as both,
        step_bars(STEPS) as tell,
    ):
        found = verify_manifest(source, both.storage, both.search, size, tell)
    took_s = time.monotonic() - started
    cut_short = found.index is not None and found.index.cut_short
    if as_json:
        show_json({"folder": opened.uri, "name": name, **_json(found), "seconds": round(took_s, 3)})
    else:
        line(f"{opened.uri}/manifests/{name}{SUFFIX}: {manifest.kind} {manifest.id}")
        _show(found)
        note(f"{took_s:,.1f} s")
    if found.problems:
        raise NotSoundError(f"{counted(found.problems, 'problem')} with what was loaded from the manifest {name}")
    if cut_short:
        raise UnavailableError(
            "the comparison with the index ended early and is incomplete: one of the two servers was far behind the "
            "other\ntry again once `neardup status` shows that it has caught up"
        )
    if not as_json:
        line(f"sound: {counted(found.rows, 'image')} of the manifest, and {counted(found.embeddings, 'embedding')}")


def _show(found: VerifiedManifest) -> None:
    sides = list(found.totals)
    rows = [
        (what, *(_number(getattr(found.totals[side], what)) for side in sides))
        for what in ("rows", "images", "clusters")
    ]
    table(("", *sides), rows, right=sides)
    if found.superseded:
        line(f"{counted(found.superseded, 'row')} superseded by later rows of the same image")
    for kind, count in found.explained.most_common():
        line(f"{counted(count, 'image')}: {kind}")
        for image_id, difference in found.examples[kind]:
            line(f"    {image_id!r}: {difference.text}")
    show_first(map(str, found.faults.listed), found.faults.count)
    if found.index is not None:
        unlike = found.index.problems
        show_first((f"image {image_id!r}: {each.text}" for image_id, each in unlike.items()), len(unlike))
        for remedy in dict.fromkeys(each.remedy for each in unlike.values()):
            line(f"to do: {remedy}")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _json(found: VerifiedManifest) -> dict[str, Any]:
    index = found.index

    def explained(kind: Explained) -> dict[str, Any]:
        examples = [{"image_id": image_id, "text": each.text} for image_id, each in found.examples[kind]]
        return {"count": found.explained[kind], "why": str(kind), "examples": examples}

    return {
        "id": found.manifest.id,
        "kind": str(found.manifest.kind),
        "sound": not found.problems and not (index and index.cut_short),
        "totals": {name: asdict(each) for name, each in found.totals.items()},
        "superseded": found.superseded,
        "compared": found.rows,
        "embeddings_compared": found.embeddings,
        "explained": {kind.name.lower(): explained(kind) for kind in found.explained},
        "fault_count": found.faults.count,
        "faults": [asdict(each) for each in found.faults.listed],
        "index_compared": {} if index is None else {str(side): count for side, count in index.compared.items()},
        "index_complete": index is not None and not index.cut_short,
        "index_problems": {} if index is None else {image: each.text for image, each in index.problems.items()},
    }
