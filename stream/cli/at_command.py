"""`neardup at`: heads and members as they were at a time."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from time import time as now_s
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.choices import since_ms
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, line, note, show_json

if TYPE_CHECKING:
    from neardup.client import ApiClient

__all__ = ["at"]


class Asked(StrEnum):
    """What can be asked about the past."""

    HEAD = "head"
    MEMBERS = "members"


def at(
    context: typer.Context,
    when: Annotated[str, typer.Argument(metavar="TIME", help="When: 90m, 2h, 7d ago, or an ISO time (UTC).")],
    what: Annotated[Asked, typer.Argument(help="The head of an image, or the members of a cluster.")],
    asked_id: Annotated[str, typer.Argument(metavar="ID", help="The image, or the head of the cluster.")],
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Show the head of an image, or the members of a cluster, as they were at a time.

    The time is that of the storage server's clock, to the second. Images that were deleted since are shown. Where
    nothing was, nothing is printed, and the exit code is 0 all the same.

    Examples:

        neardup at 2h head clothing-0152ec2ee8

        neardup at 2026-11-28T07:00:00Z members clothing-0152ec2ee8

        neardup at 7d members clothing-0152ec2ee8 --json | jq .count
    """
    time_ms = since_ms(when, now_s(), "TIME")
    with of(context).api(signal) as api:
        if what is Asked.HEAD:
            _show_head(api, asked_id, time_ms, as_json=as_json)
        else:
            _show_members(api, asked_id, time_ms, as_json=as_json)


def _show_head(api: ApiClient, image_id: str, time_ms: int, *, as_json: bool) -> None:
    found = api.head_at(image_id, time_ms)
    if as_json:
        show_json(asdict(found))
    elif found.head is None:
        note(f"(no head at {found.time}: the image was unknown, still waited, or was deleted)", style="dim")
    else:
        line(found.head)


def _show_members(api: ApiClient, head: str, time_ms: int, *, as_json: bool) -> None:
    found = api.members_at(head, time_ms)
    if as_json:
        show_json(asdict(found))
        return
    for member in found.members:
        line(member)
    note(f"({counted(found.count, 'member')} at {found.time})", style="dim")
