"""`neardup head`, `members` and `similar`: what the storage server knows, over its HTTP API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from typing import Annotated, Any

import typer

from core.errors import BadInputError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, note, show_json, show_json_with_list

__all__ = ["head", "members", "similar"]

_DEFAULT_LIMIT = 100

Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="Show at most N members.")]

Newest = Annotated[bool, typer.Option("--newest", help="Show those first that joined last.")]


def head(
    context: typer.Context,
    image_id: Annotated[str, typer.Argument(metavar="IMAGE_ID", help="The image.")],
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Show an image's cluster head, and why it has this one.

    Examples:

        neardup head clothing-0152ec2ee8

        neardup head clothing-0152ec2ee8 --json | jq -r .head
    """
    with of(context).api(signal) as api:
        image = asdict(api.image(image_id))
    if as_json:
        show_json(image)
        return
    for text in _image_lines(image):
        line(text)


def members(
    context: typer.Context,
    head: Annotated[str, typer.Argument(metavar="HEAD", help="The head of the cluster.")],
    limit: Limit = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every member, however many there are.")] = False,
    newest: Newest = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """List the members of a cluster, its head among them.

    Prints one id a line, at most 100 without --limit or --all.

    Examples:

        neardup members clothing-0152ec2ee8

        neardup members clothing-0152ec2ee8 --all > members.txt

        neardup members clothing-0152ec2ee8 --newest --limit 10
    """
    if everything and limit is not None:
        raise BadInputError("--limit and --all cannot be given together")
    shown = None if everything else limit or _DEFAULT_LIMIT
    with of(context).api(signal) as api:
        cluster = api.cluster(head)
        _show_members(asdict(cluster), api.members(head, shown, newest_first=newest), as_json=as_json)
        left = cluster.count - (shown or cluster.count)
        if left > 0:
            note(f"({counted(left, 'more member')}: --all shows every one)", style="dim")


def similar(
    context: typer.Context,
    image_id: Annotated[str, typer.Argument(metavar="IMAGE_ID", help="The image.")],
    limit: Limit = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """List all near-duplicates of an image: the cluster that it is in.

    Prints one id a line, the image itself included.

    Examples:

        neardup similar clothing-0152ec2ee8

        neardup similar clothing-0152ec2ee8 --json
    """
    with of(context).api(signal) as api:
        # The first answer has head and count, so that the text and the JSON can begin with them.
        first = api.similar_page(image_id, min(limit, api.page_size) if limit else api.page_size)
        rest: Iterator[str] = api.similar(image_id, limit, first=first)
        about = {"image_id": first.image_id, "head": first.head, "count": first.count}
        _show_members(about, rest, as_json=as_json)
        if not as_json:
            note(f"({counted(first.count, 'member')}, head {first.head})", style="dim")


def _show_members(about: dict[str, Any], found: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        show_json_with_list(about, "members", found)
        return
    for member in found:
        line(member)


def _image_lines(image: dict[str, Any]) -> Iterator[str]:
    versions = image.pop("versions", None) or {}
    named = {f"{name} version": value for name, value in versions.items()}
    if image.pop("truncated", False):
        named["search"] = "truncated at max_postings: younger images of long lists were left out"
    for name, value in chain(image.items(), named.items()):
        if value is not None and value != "":
            yield f"{name.replace('_', ' '):<15}{value}"
