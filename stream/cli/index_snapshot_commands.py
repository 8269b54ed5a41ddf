"""`neardup index snapshot|snapshots|restore`: copies of the term index."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, note, show_json, table

__all__ = ["restore", "snapshot", "snapshots"]

COPY_S = 3600.0
"""The deadline of a snapshot, in seconds: on another volume every byte is copied."""

DAY_MS = 86_400_000


def snapshot(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of the copy: letters, digits, '.', '_', '-'.")],
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Make a consistent copy of the running index, in signals/SIGNAL/index-snapshots/NAME.

    Needs the write key. Sealed segments are linked, so a copy takes seconds and little space. If the
    snapshots lie on another volume, every byte is copied.

    Example:

        neardup index snapshot before-tuning
    """
    from core.access import Right
    from search.serving.client import SearchClient
    from stream.access import credentials

    settings = of(context).running()
    server, proof = settings.signal(signal)[1].search, credentials(settings, Right.WRITE)
    with closing(SearchClient(server.address, COPY_S, server.max_message_bytes, credentials=proof)) as search:
        made = search.snapshot(name, COPY_S)
    if as_json:
        show_json({"folder": made.folder, "log_id": made.log_id, "offset": made.offset, "bytes": made.bytes})
    else:
        line(f"{made.folder}: up to offset {made.offset}, {made.bytes:,} bytes")


def snapshots(
    context: typer.Context,
    remove_older_than: Annotated[
        float | None, typer.Option("--remove-older-than", metavar="DAYS", min=0, help="Remove those that are older.")
    ] = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """List the snapshots of the index with their age, oldest first.

    A snapshot keeps the space of segments that the live index has merged away since, so old ones fill the disk.

    Examples:

        neardup index snapshots

        neardup index snapshots --remove-older-than 30
    """
    from search.index.snapshot import snapshots as found_in
    from stream.servers import search_server_settings

    settings = of(context).running()
    now_ms = time.time() * 1000
    rows = []
    for info in found_in(search_server_settings(settings, signal).snapshots):
        days = (now_ms - info.created_at_ms) / DAY_MS
        if remove_older_than is not None and days > remove_older_than:
            shutil.rmtree(info.folder)
            note(f"removed {info.folder}")
            continue
        rows.append((info.folder.name, round(days, 2), info.position.offset, info.bytes))
    if as_json:
        keys = ("name", "age_days", "offset", "bytes")
        show_json({"snapshots": [dict(zip(keys, row, strict=True)) for row in rows]})
    else:
        shown = [(name, f"{days:.1f}", offset, f"{size:,}") for name, days, offset, size in rows]
        table(("name", "age in days", "offset", "bytes"), shown, right=("age in days", "offset", "bytes"))


def restore(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The name of a snapshot, or the path of its folder.")],
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Replace the index by a snapshot, whole.

    The search server must not run: `neardup down` first, then `neardup up`. The snapshot is copied into a new
    generation, every checksum is compared, and then the new generation takes the place of the old one in one step. If
    the command is interrupted, the old index stays; run it again. The job then sends what came after the snapshot from
    `joined`.

    A snapshot is refused when it is damaged, was made for other settings, or has released more than storage has.

    Example:

        neardup index restore before-tuning
    """
    from search.index.generations import IndexGenerations
    from search.index.restoring import restore_snapshot
    from search.serving.server import index_settings
    from stream.index_restore import check_beside, storage_position
    from stream.interrupts import interruptible
    from stream.servers import search_server_settings

    settings = of(context).running()
    signal_name, _ = settings.signal(signal)
    server = search_server_settings(settings, signal_name)
    told = index_settings(server, server.terms.build(), server.code.build())
    folder = server.snapshots / name if len(Path(name).parts) == 1 else Path(name)
    with interruptible():
        check = partial(check_beside, storage_position(settings, signal_name))
        restored, stats = restore_snapshot(IndexGenerations(server.folder), folder, told, check)
    if as_json:
        show_json({"folder": str(restored), "images": stats.images, "offset": stats.position.offset})
        return
    line(f"{restored}: {counted(stats.images, 'image')} up to offset {stats.position.offset}")
    note("the search server will open it when it starts (`neardup up`)")
