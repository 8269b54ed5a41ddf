"""`neardup delete`."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.choices import IdsFile, chosen_ids
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, note, progress_bar, show_json

if TYPE_CHECKING:
    from stream.deletes import DeleteReport

__all__ = ["delete"]

CALL_S = 10.0
"""The deadline of one call, in seconds."""

PATIENCE_S = 5.0
"""After so many seconds without progress, the bar says what it waits for."""


def delete(
    context: typer.Context,
    images: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE_ID]...", help="The images.")] = None,
    ids_file: IdsFile = None,
    version: Annotated[
        int | None,
        typer.Option(metavar="V", min=0, help="Versions up to this one; without it the version that is there."),
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the image's tombstone.")] = "",
    author: Annotated[str, typer.Option(metavar="NAME", help="Who; without it the user of this machine.")] = "",
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Delete images: no later search finds them, nobody reads them, and their embeddings are erased.

    A head that has members stays as the name of its cluster, but is no member any more. A version that was deleted is
    ignored if it comes again. A higher one is a new image. The command returns when storage has applied the deletes.

    Deletes go into the order beside replays, a few at a time, so live images hardly wait. The same command may be given
    again: what is deleted stays deleted.

    Examples:

        neardup delete clothing-0152ec2ee8 --reason "takedown 4711"

        neardup delete --ids-file ids.txt --version 3
    """
    from core.access import Right
    from core.delete_requests import DeleteRequest
    from core.errors import BadInputError
    from storage.serving.client import StorageClient
    from storage.serving.order_writer import OrderWriter
    from storage.serving.publisher import KafkaSender
    from stream.access import credentials
    from stream.broker import Broker
    from stream.deletes import DeleteReport, check_log, delete_images
    from stream.interrupts import interruptible
    from stream.names import client_id
    from stream.requests import new_request, user_name

    ids = chosen_ids(images or (), ids_file)
    if not ids:
        raise BadInputError("no image is named: give ids, or --ids-file")
    settings = of(context).running()
    name, chosen = settings.signal(signal)
    topic, access = chosen.topic("joined"), settings.kafka_access(client_id(name, "delete"))
    request, now_ms, who = new_request("delete"), time.time_ns() // 10**6, author or user_name()
    requests = [DeleteRequest(each, request, version, now_ms, who, reason) for each in ids]
    server, proof, report = chosen.storage, credentials(settings, Right.WRITE), DeleteReport()
    with (
        interruptible(),
        closing(StorageClient(server.address, CALL_S, server.max_message_bytes, proof)) as storage,
        closing(OrderWriter(partial(KafkaSender, access.python_options(), topic), storage.require_kinds)) as writer,
        progress_bar() as bar,
    ):
        with Broker(access) as broker:
            check_log(storage, topic, broker.topic_id(topic))
        task, moved = bar.add_task("deleting", total=len(ids), note=""), time.monotonic()

        def progress(waiting: bool) -> None:
            nonlocal moved
            if not waiting:
                moved = time.monotonic()
            slow = time.monotonic() - moved > PATIENCE_S
            bar.update(task, completed=len(report.fates), note="waiting for the job to apply them" if slow else "")

        try:
            delete_images(requests, writer, storage, report, progress)
        except BaseException:
            done = counted(len(report.fates), "image")
            note(f"{done} done; give the same command again for the others, which may be deleted already")
            raise
    _show(report, request, as_json=as_json)


def _show(report: DeleteReport, request: str, *, as_json: bool) -> None:
    from stream.deletes import DeleteFate

    counts = {fate: report.count(fate) for fate in DeleteFate}
    if as_json:
        show_json(
            {
                "request": request,
                "position": report.position,
                "counts": {fate.value: number for fate, number in counts.items()},
                "images": {image_id: fate.value for image_id, fate in report.fates.items()},
            }
        )
        return
    if len(report.fates) == 1:
        [(image_id, fate)] = report.fates.items()
        line(f"{image_id}: {fate}")
        return
    for fate, number in counts.items():
        if number:
            line(f"{fate}: {number:,}")
