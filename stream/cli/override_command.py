"""`neardup override`: what people say about images, against what the model says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import BadInputError
from stream.cli.choices import IdsFile, chosen_ids
from stream.cli.context import AsJson, SignalName
from stream.cli.nested import show_nested
from stream.cli.output import note, show_json, show_json_with_list, table
from stream.cli.override_calls import rollback_text, say, storage_client
from stream.cli.override_parts import say_in_parts
from stream.cli.texts import time_text
from stream.errors import NotKnownError

if TYPE_CHECKING:
    from core.overrides import ListedOverride, OverrideKind, OverrideRequest
    from core.types import ImageId
    from storage.serving.client import StorageClient

__all__ = ["app"]

_PAGE = 1000
_SHOWN_IMAGES = 3

Images = Annotated[
    list[str] | None, typer.Argument(metavar="[IMAGE_ID]...", help="The images; of a forbid at most 1,000.")
]
Clusters = Annotated[list[str] | None, typer.Argument(metavar="[HEAD]...", help="The clusters that go, by any image.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=2**63 - 1, help="The number of the override.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the override.")]
Author = Annotated[str, typer.Option(metavar="NAME", help="Who; without it the user of this machine.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing, and list what would move.")]

app = typer.Typer(no_args_is_help=True, help="Say which images belong together and which do not, for good.")


@app.callback()
def _override() -> None:
    """Say which images belong together and which do not, for good.

    An override outlives new versions, replays, new models and rebuilds of the index, until it is undone. Saying the
    same again does nothing. One that contradicts another is refused, and the message names the other. The commands
    that write need the write key.
    """


@app.command()
def pin(
    context: typer.Context,
    target: Annotated[str, typer.Option("--to", metavar="IMAGE_ID", help="The image whose cluster they belong to.")],
    images: Images = None,
    ids_file: IdsFile = None,
    reason: Reason = "",
    author: Author = "",
    dry_run: DryRun = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Keep images in the cluster of another image, wherever that one goes.

    An image that has not come yet waits for its pin. The target must be known; if more than 1,000 images are pinned to
    it, it must be a head. More than 100,000 images are said in several overrides, one after the other: give the same
    command again if it is interrupted.

    Examples:

        neardup override pin clothing-0152ec2ee8 --to clothing-025bbb8f3b --reason "the same shirt"

        neardup override pin --ids-file ids.txt --to clothing-025bbb8f3b --dry-run
    """
    from core.overrides import OverrideKind

    request = _request(OverrideKind.PIN, images, ids_file, target, author, reason)
    _say_all(context, signal, request, dry_run=dry_run, as_json=as_json)


@app.command()
def forbid(
    context: typer.Context,
    target: Annotated[str, typer.Option("--with", metavar="IMAGE_ID", help="The image that they never go with.")],
    images: Images = None,
    ids_file: IdsFile = None,
    reason: Reason = "",
    author: Author = "",
    dry_run: DryRun = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Keep images out of the cluster of another image, whatever their scores: at most 1,000 of them.

    Examples:

        neardup override forbid clothing-0152ec2ee8 --with clothing-025bbb8f3b --reason "another print"

        neardup override forbid --ids-file ids.txt --with clothing-025bbb8f3b --dry-run
    """
    from core.overrides import OverrideKind

    request = _request(OverrideKind.FORBID, images, ids_file, target, author, reason)
    say(context, signal, request, dry_run=dry_run, as_json=as_json)


@app.command()
def split(
    context: typer.Context,
    target: Annotated[str, typer.Option("--from", metavar="HEAD", help="The head of the cluster that they leave.")],
    images: Images = None,
    ids_file: IdsFile = None,
    reason: Reason = "",
    author: Author = "",
    dry_run: DryRun = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Take images out of a cluster, into one of their own, and keep them apart from its head.

    More than 100,000 images are said in several overrides, one after the other: the first is the split of the oldest
    image and as many others, and the rest is pinned to the oldest one. Give the same command again if it is
    interrupted.

    Examples:

        neardup override split clothing-0152ec2ee8 clothing-18e573be5a --from clothing-025bbb8f3b --dry-run

        neardup override split --ids-file ids.txt --from clothing-025bbb8f3b --reason "another print"
    """
    from core.overrides import OverrideKind

    request = _request(OverrideKind.SPLIT, images, ids_file, target, author, reason)
    _say_all(context, signal, request, dry_run=dry_run, as_json=as_json)


@app.command()
def merge(
    context: typer.Context,
    target: Annotated[str, typer.Option("--into", metavar="HEAD", help="The cluster that they go into.")],
    clusters: Clusters = None,
    ids_file: IdsFile = None,
    reason: Reason = "",
    author: Author = "",
    dry_run: DryRun = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Put whole clusters into another one, with all their members.

    Examples:

        neardup override merge clothing-0152ec2ee8 --into clothing-025bbb8f3b --dry-run

        neardup override merge --ids-file heads.txt --into clothing-025bbb8f3b --reason "the same shirt"
    """
    from core.overrides import OverrideKind

    request = _request(OverrideKind.MERGE, clusters, ids_file, target, author, reason)
    say(context, signal, request, dry_run=dry_run, as_json=as_json)


@app.command()
def undo(
    context: typer.Context,
    number: Number,
    reason: Reason = "",
    author: Author = "",
    dry_run: DryRun = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """End an override. It stays listed, with the number of its undo, and its images are decided again.

    What a rollback moved goes back to where it was before, and is not decided again.

    Examples:

        neardup override undo 17 --reason "it was the same shirt after all"

        neardup override undo 17 --dry-run
    """
    from core.overrides import OverrideKind, OverrideRequest
    from stream.requests import user_name

    request = OverrideRequest(OverrideKind.UNDO, undoes=number, author=author or user_name(), reason=reason)
    say(context, signal, request, dry_run=dry_run, as_json=as_json)


@app.command("list")
def list_command(
    context: typer.Context,
    image: Annotated[str | None, typer.Option(metavar="IMAGE_ID", help="Only overrides that name this image.")] = None,
    after: Annotated[
        int, typer.Option(metavar="N", min=0, max=2**63 - 1, help="Only overrides with higher numbers.")
    ] = 0,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """List overrides by number: those that stand, and those that were undone.

    Examples:

        neardup override list

        neardup override list --image clothing-0152ec2ee8

        neardup override list --json | jq '.overrides[] | select(.undone_by == null)'
    """
    from core.notifications import image_id

    wanted = None if image is None else image_id(image)
    with storage_client(context, signal, writes=False) as storage:
        found = _all(storage, after, wanted)
        if as_json:
            show_json_with_list({"image_id": image}, "overrides", map(_json, found))
            return
        rows = [_row(each) for each in found]
    if rows:
        table(("number", "when", "kind", "images", "target", "author", "reason", "state"), rows, right=("number",))
    else:
        note("no override" if image is None else f"no override names {image}")


@app.command("show")
def show_command(context: typer.Context, number: Number, signal: SignalName = None, as_json: AsJson = False) -> None:
    """Show one override: all its images, who said it and why, and how it stands.

    Examples:

        neardup override show 17

        neardup override show 17 --json
    """
    with storage_client(context, signal, writes=False) as storage:
        found = next(iter(storage.overrides(number - 1, 1)), None)
    if found is None or found.override.number != number:
        raise NotKnownError(f"there is no override {number}: `neardup override list` has those that there are")
    if as_json:
        show_json(_json(found))
        return
    shown = {**_json(found), "at": time_text(found.override.at_ms), "state": _state(found)}
    if found.override.rollback is not None:
        shown["rollback"] = rollback_text(found.override.rollback)
    show_nested({name: value for name, value in shown.items() if name not in ("undone_by", "waits")})


def _say_all(
    context: typer.Context, signal: str | None, request: OverrideRequest, *, dry_run: bool, as_json: bool
) -> None:
    """Says a split or a pin of any number of images."""
    from core.overrides import MAX_IMAGES

    if len(request.images) <= MAX_IMAGES:
        say(context, signal, request, dry_run=dry_run, as_json=as_json)
    elif dry_run:
        raise BadInputError(f"a dry run takes at most {MAX_IMAGES} images, not {len(request.images)}")
    else:
        say_in_parts(context, signal, request, as_json=as_json)


def _request(
    kind: OverrideKind, images: list[str] | None, ids_file: Path | None, target: str, author: str, reason: str
) -> OverrideRequest:
    """What is said. A split or a pin may name more images than one override takes.

    Raises:
        BadInputError: No image is named, or an id or a text is not valid.
    """
    from core.notifications import image_id
    from core.overrides import MAX_IMAGES, OverrideKind, OverrideRequest
    from storage.limits import check_override
    from stream.requests import user_name

    ids = chosen_ids(images or (), ids_file)
    if not ids:
        raise BadInputError("no image is named: give ids, or --ids-file")
    request = OverrideRequest(kind, tuple(ids), image_id(target), 0, author or user_name(), reason)
    in_parts = kind in (OverrideKind.SPLIT, OverrideKind.PIN) and len(ids) > MAX_IMAGES
    check_override(replace(request, images=()) if in_parts else request)
    return request


def _all(storage: StorageClient, after: int, image_id: ImageId | None) -> Iterator[ListedOverride]:
    """All overrides with higher numbers, read page by page."""
    while True:
        page = storage.overrides(after, _PAGE, image_id)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].override.number


def _json(listed: ListedOverride) -> dict[str, Any]:
    """As the HTTP API has it."""
    from storage.api.override_schemas import ListedOverrideOut

    return ListedOverrideOut.of_listed(listed).model_dump()


def _row(listed: ListedOverride) -> tuple[object, ...]:
    from core.overrides import OverrideKind

    said = listed.override
    shown = " ".join(said.images[:_SHOWN_IMAGES])
    further = len(said.images) - _SHOWN_IMAGES
    images = f"{shown} and {further:,} more" if further > 0 else shown
    about: object = said.target if said.target is not None else said.undoes
    if said.kind is OverrideKind.ROLLBACK and said.rollback is not None:
        images, about = rollback_text(said.rollback), ""
    return said.number, time_text(said.at_ms), said.kind, images, about, said.author, said.reason, _state(listed)


def _state(listed: ListedOverride) -> str:
    if listed.undone_by is not None:
        return f"undone by {listed.undone_by}"
    return "waits until the store has the records before it" if listed.waits else "stands"
