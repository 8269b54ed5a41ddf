"""`neardup forget`."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.choices import IdsFile, chosen_ids
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, note, progress_bar, show_json, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.types import ImageId
    from stream.deletes import DeleteReport
    from stream.settings import Settings

__all__ = ["forget"]

CALL_S = 10.0
"""The deadline of one call, in seconds."""


def forget(
    context: typer.Context,
    images: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE_ID]...", help="The images.")] = None,
    ids_file: IdsFile = None,
    refuse_return: Annotated[
        bool, typer.Option("--refuse-return", help="Ignore and count every later version too, for ever.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Tell where the images still lie; without images, how many wait.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, and tell what would change.")] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept, so it should not name the image.")] = "",
    author: Annotated[str, typer.Option(metavar="NAME", help="Who; without it the user of this machine.")] = "",
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Forget images: delete them, and erase them from the store, its history and the index within 24 hours.

    A head that has members passes its name to the oldest of them. History keeps a numbered blank for each change of a
    forgotten image. A keyed hash of its id stays, by which versions up to the forgotten one are ignored. Topics,
    checkpoints and backups lose the image by age: `--report` says when. The command returns when storage has applied
    the deletes.

    Examples:

        neardup forget clothing-0152ec2ee8 --refuse-return --reason "request 4711"

        neardup forget --ids-file ids.txt --dry-run

        neardup forget --report clothing-0152ec2ee8
    """
    from core.errors import BadInputError

    ids = chosen_ids(images or (), ids_file)
    settings = of(context).running()
    name, _ = settings.signal(signal)
    if report:
        _report(settings, name, ids, as_json=as_json)
        return
    if not ids:
        raise BadInputError("no image is named: give ids, or --ids-file")
    if dry_run:
        _plan(settings, name, ids, as_json=as_json)
        return
    _forget(settings, name, ids, (author, reason), refuse_return=refuse_return, as_json=as_json)


def _forget(
    settings: Settings, name: str, ids: Sequence[ImageId], why: tuple[str, str], *, refuse_return: bool, as_json: bool
) -> None:
    from core.access import Right
    from core.delete_requests import DeleteRequest
    from core.notifications import MAX_IMAGE_VERSION
    from storage.serving.client import StorageClient
    from storage.serving.order_writer import OrderWriter
    from storage.serving.publisher import KafkaSender
    from stream.access import credentials
    from stream.broker import Broker
    from stream.deletes import DeleteReport, check_log, delete_images
    from stream.interrupts import interruptible
    from stream.names import client_id
    from stream.requests import new_request, user_name

    chosen = settings.signal(name)[1]
    topic, access = chosen.topic("joined"), settings.kafka_access(client_id(name, "forget"))
    request, now_ms = new_request("forget"), time.time_ns() // 10**6
    version, (author, reason) = MAX_IMAGE_VERSION if refuse_return else None, why
    requests = [
        DeleteRequest(each, request, version, now_ms, author or user_name(), reason, forget=True) for each in ids
    ]
    server, proof, report = chosen.storage, credentials(settings, Right.WRITE), DeleteReport()
    with (
        interruptible(),
        closing(StorageClient(server.address, CALL_S, server.max_message_bytes, proof)) as storage,
        closing(OrderWriter(partial(KafkaSender, access.python_options(), topic), storage.require_kinds)) as writer,
        progress_bar() as bar,
    ):
        with Broker(access) as broker:
            check_log(storage, topic, broker.topic_id(topic))
        task = bar.add_task("forgetting", total=len(ids), note="")

        def progress(waiting: bool) -> None:
            bar.update(task, completed=len(report.fates), note="waiting for the job to apply them" if waiting else "")

        try:
            delete_images(requests, writer, storage, report, progress)
        except BaseException:
            done = counted(len(report.fates), "image")
            note(f"{done} done; give the same command again for the others, which may be forgotten already")
            raise
    _show(report, request, as_json=as_json)


def _show(report: DeleteReport, request: str, *, as_json: bool) -> None:
    from stream.deletes import DeleteFate

    words = {DeleteFate.DELETED: "forgotten", DeleteFate.BEFORE: "forgotten before"}
    fates = {image_id: words.get(fate, str(fate)) for image_id, fate in report.fates.items()}
    if as_json:
        show_json({"request": request, "position": report.position, "images": fates})
        return
    if len(fates) == 1:
        [(image_id, fate)] = fates.items()
        line(f"{image_id}: {fate}")
        return
    for fate in dict.fromkeys(fates.values()):
        line(f"{fate}: {sum(each == fate for each in fates.values()):,}")


def _plan(settings: Settings, name: str, ids: Sequence[ImageId], *, as_json: bool) -> None:
    """What would change, as storage is now."""
    from core.access import Right
    from storage.serving.client import StorageClient
    from stream.access import credentials

    server, proof = settings.signal(name)[1].storage, credentials(settings, Right.READ)
    with closing(StorageClient(server.address, CALL_S, server.max_message_bytes, proof)) as storage:
        found = storage.look_up(ids)
    plans: dict[ImageId, tuple[str, int]] = {}
    for image_id in ids:
        membership, cluster = found.memberships.get(image_id), found.clusters.get(image_id)
        others = 0 if cluster is None else cluster.count - (membership is not None)
        there = "there" if membership is not None else "deleted" if image_id in found.tombstones else "unknown"
        plans[image_id] = there, others
    if as_json:
        told = {each: {"image": there, "renamed": others} for each, (there, others) in plans.items()}
        show_json({"dry_run": True, "images": told})
        return
    for image_id, (there, others) in plans.items():
        renamed = f"; {counted(others, 'member gets', 'members get')} another head" if others else ""
        line(f"{image_id}: {there}{renamed}")


def _report(settings: Settings, name: str, ids: Sequence[ImageId], *, as_json: bool) -> None:
    from stream.forget_report import remains_of

    if not ids:
        _counts(settings, name, as_json=as_json)
        return
    found = remains_of(settings, name, ids)
    if as_json:
        show_json(
            {
                "images": {
                    image_id: {
                        "pseudonym": image.pseudonym,
                        "position": image.position,
                        "forgotten_at": _time(image.forgotten_at_ms),
                        "refused": image.refused,
                        "returned": image.returned,
                        "places": [
                            {"place": each.place, "fate": each.fate, "at": _time(each.at_ms), "note": each.note}
                            for each in places
                        ],
                    }
                    for image_id, (image, places) in found.items()
                }
            }
        )
        return
    for image_id in ids:
        if image_id not in found:
            line(f"{image_id}: was not forgotten")
            continue
        image, places = found[image_id]
        again = "; it is refused" if image.refused else "; a higher version has come since" if image.returned else ""
        line(f"{image_id}: forgotten at {_time(image.forgotten_at_ms)}, position {image.position}{again}")
        rows = [(each.place, each.fate.value, _time(each.at_ms) or "", each.note) for each in places]
        table(("place", "fate", "time", "note"), rows)


def _counts(settings: Settings, name: str, *, as_json: bool) -> None:
    from core.access import Right
    from storage.serving.client import StorageClient
    from stream.access import credentials

    server, proof = settings.signal(name)[1].storage, credentials(settings, Right.READ)
    with closing(StorageClient(server.address, CALL_S, server.max_message_bytes, proof)) as storage:
        _, counts = storage.forgotten()
    oldest = _time(counts.oldest_ms or None)
    if as_json:
        show_json({"erased": counts.erased, "waiting": counts.waiting, "oldest": oldest})
        return
    since = f", the oldest since {oldest}" if oldest else ""
    line(f"{counts.erased:,} erased from the store, {counts.waiting:,} wait{since}")


def _time(at_ms: int | None) -> str | None:
    from stream.times import time_text

    return None if at_ms is None else time_text(at_ms)
