"""`neardup bootstrap`: images of another system, already in clusters, become a manifest.

What loads it: `stream.cli.bootstrap_load_commands`. What compares it then: `stream.cli.bootstrap_verify_command`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.bootstrap_load_commands import abort, load, status
from stream.cli.bootstrap_verify_command import verify
from stream.cli.context import AsJson, SignalName, Spool, of, spool_folder
from stream.cli.output import counted, line, note, show_json, step_bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifests.faults import Fault
    from manifests.manifest import Manifest

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Bring images of another system, with their clusters.")
for _command in (load, status, verify, abort):
    app.command()(_command)

_STEPS = {"keys": "reading ids", "order": "sorting", "rows": "embeddings", "heads": "comparing heads"}


@app.callback()
def _bootstrap() -> None:
    """Bring images of another system, with their clusters."""


@app.command()
def convert(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Parquet, CSV (.csv) or TSV (.tsv) files.")],
    to: Annotated[str, typer.Option(metavar="FOLDER", help="Where to write: a folder, or s3://BUCKET/PREFIX.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="The manifest's name.")],
    image_id: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the ids.")] = "image_id",
    head: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column with each image's head; default: head.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Instead: a column with any names of clusters; the oldest is head. Empty: it is alone.",
        ),
    ] = None,
    search: Annotated[
        str, typer.Option(metavar="COLUMN", help="The search embedding; 'emb_*' for one column a number.")
    ] = "search",
    score: Annotated[str, typer.Option(metavar="COLUMN", help="The score embedding, likewise.")] = "score",
    version: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The version; default: image_version, else 1.")
    ] = None,
    created_at: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="When the image was made; default: created_at, if it is there.")
    ] = None,
    matched: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The image that it matched; default: matched, if it is there.")
    ] = None,
    probability: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The score of that; default: probability, if it is there.")
    ] = None,
    cause: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Why it is there; default: cause, else bootstrapped.")
    ] = None,
    hash_rows: Annotated[
        bool, typer.Option("--hash", help="Also make terms and codes, so that loading is faster.")
    ] = False,
    model: Annotated[str, typer.Option(metavar="TEXT", help="The version of the model that gave the scores.")] = "",
    rule: Annotated[str, typer.Option(metavar="TEXT", help="What chose the clusters, in a few words.")] = "",
    delta: Annotated[bool, typer.Option("--delta", help="These are new images, for a service that runs.")] = False,
    previous: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --delta: the manifest before it, in the same folder.")
    ] = None,
    spool: Spool = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Make a manifest from files of another system.

    Each row has an id, a cluster and both embeddings; images without embeddings are refused. An embedding is a list of
    numbers, a text of numbers with commas or spaces between, or one column a number. Rows may be in any order: the
    files are read once for ids, then once or twice for embeddings.

    Every row is checked. If any cannot be taken, all faults are listed by file and row, and nothing is written. The
    manifest itself is written last. After an interruption run the command again.

    S3 takes credentials, region and AWS_ENDPOINT_URL from the environment.

    Examples:

        neardup bootstrap convert export.parquet --to /data/old --name 2026-11-01 --hash

        neardup bootstrap convert a.csv b.csv --to s3://photos/old --name first --image-id photo --cluster group

        neardup bootstrap convert new.parquet --to /data/old --name 2026-11-02 --delta --previous 2026-11-01
    """
    from core.blas import use_one_blas_thread
    from core.errors import BadInputError
    from manifests.folder import open_folder, read_manifest
    from manifests.manifest import SUFFIX
    from stream.bootstrap.convert import Conversion, FaultyRowsError
    from stream.bootstrap.convert import convert as make
    from stream.bootstrap.signal import hashing, load_signal, value_checks
    from stream.bootstrap.sources import Columns
    from stream.interrupts import interruptible

    if head is not None and cluster is not None:
        raise BadInputError("give --head or --cluster, not both")
    if delta is (previous is None):
        raise BadInputError("a delta follows another manifest: give --delta and --previous NAME together")
    if delta and cluster is not None:
        raise BadInputError("a delta names heads, since clusters exist already: give --head, not --cluster")
    settings, folder = of(context).settings(), open_folder(to, spool)
    name, previous = name.removesuffix(SUFFIX), previous and previous.removesuffix(SUFFIX)
    use_one_blas_thread()
    asked = Conversion(
        files,
        Columns(
            image_id=image_id,
            cluster=cluster or head or "head",
            search=search,
            score=score,
            image_version=version,
            created_at=created_at,
            cause=cause,
            probability=probability,
            matched=matched,
        ),
        load_signal(settings, signal),
        value_checks(settings, signal),
        clusters=cluster is not None,
        hashing=hashing(settings, signal) if hash_rows else None,
        model=model,
        rule=rule,
        previous=read_manifest(folder, f"{previous}{SUFFIX}").id if previous else None,
    )
    started = time.monotonic()
    try:
        with interruptible(), step_bars(_STEPS) as tell:
            made = make(asked, folder, name, spool_folder(spool), tell)
    except FaultyRowsError as error:
        _show_faults(error.faults, error.count, as_json)
        raise
    took_s = time.monotonic() - started
    if as_json:
        told = {"folder": folder.uri, "name": name, **_plain(made.manifest)}
        show_json({**told, "readings": made.readings, "seconds": round(took_s, 3)})
        return
    line(f"{folder.uri}/manifests/{name}{SUFFIX}: {_summary(made.manifest)}")
    per_s = made.manifest.rows / max(took_s, 1e-9)
    note(f"embeddings read {counted(made.readings, 'time')}, {per_s:,.0f} rows per second")


@app.command()
def check(
    context: typer.Context,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder, or s3://BUCKET/PREFIX.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The manifest.")],
    spool: Spool = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Read a manifest whole and list every fault by file and row.

    Compares each file with its checksum and its metadata with the settings, reads every value as loading does, and
    compares all rows with one another: ids, versions, heads. Needs disk for the largest file and about 100 bytes a row.
    Ends with exit code 5 if there is a fault.

    Examples:

        neardup bootstrap check /data/old 2026-11-01

        neardup bootstrap check s3://photos/old first --json
    """
    from manifests.checking import check_manifest
    from manifests.folder import open_folder
    from manifests.manifest import SUFFIX
    from stream.bootstrap.signal import load_signal, value_checks
    from stream.errors import NotSoundError
    from stream.interrupts import interruptible

    settings, opened = of(context).settings(), open_folder(folder)
    name = name.removesuffix(SUFFIX)
    wanted, checks = load_signal(settings, signal), value_checks(settings, signal)
    started = time.monotonic()
    with interruptible(), step_bars(_STEPS) as tell:
        found = check_manifest(opened, f"{name}{SUFFIX}", wanted, checks, spool_folder(spool), tell)
    took_s = time.monotonic() - started
    counts = {
        "images": found.images,
        "clusters": found.clusters,
        "superseded": found.superseded,
        "hashed": found.hashed,
    }
    if as_json:
        told = {"folder": opened.uri, "name": name, **_plain(found.manifest), **counts}
        faults = [asdict(fault) for fault in found.faults.listed]
        show_json({**told, "fault_count": found.faults.count, "faults": faults, "seconds": round(took_s, 3)})
    else:
        _show_faults(found.faults.listed, found.faults.count, as_json=False)
        line(f"{opened.uri}/manifests/{name}{SUFFIX}: {_summary(found.manifest)}")
        if found.images is None:
            line("not all rows could be read, so their heads were not compared")
        else:
            line(f"{counted(found.images, 'image')} in {counted(found.clusters or 0, 'cluster')}")
            hashed = counted(found.hashed, "row")
            line(f"{counted(found.superseded or 0, 'row')} superseded, {hashed} with terms and codes")
        note(f"{found.manifest.rows / max(took_s, 1e-9):,.0f} rows per second")
    if found.faults.count:
        raise NotSoundError(f"{counted(found.faults.count, 'fault')} in the manifest {name}")


def _plain(manifest: Manifest) -> dict[str, Any]:
    return {
        "id": manifest.id,
        "kind": str(manifest.kind),
        "previous": manifest.previous,
        "files": len(manifest.files),
        "rows": manifest.rows,
        "bytes": manifest.size,
    }


def _summary(manifest: Manifest) -> str:
    return (
        f"{manifest.kind} {manifest.id}, {counted(manifest.rows, 'row')} in {counted(len(manifest.files), 'file')}, "
        f"{manifest.size / 1e6:,.1f} MB"
    )


def _show_faults(faults: Sequence[Fault], count: int, as_json: bool) -> None:
    if as_json:
        show_json({"fault_count": count, "faults": [asdict(fault) for fault in faults]})
        return
    for fault in faults:
        line(str(fault))
    if count > len(faults):
        line(f"... and {count - len(faults):,} more")
