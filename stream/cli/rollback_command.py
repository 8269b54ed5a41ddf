"""`neardup rollback`: images go back to the heads that they had at an earlier moment."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from time import time as now_s
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import BadInputError
from stream.cli.choices import since_ms
from stream.cli.context import AsJson, SignalName
from stream.cli.override_calls import say

if TYPE_CHECKING:
    from core.overrides import RollbackRequest
    from core.types import Cause

__all__ = ["rollback"]


class NewChoice(StrEnum):
    """What becomes of images that came after the moment."""

    DECIDE = "decide"
    KEEP = "keep"


_FILTERS = ("model", "head", "cause", "since")


def rollback(
    context: typer.Context,
    to: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Go back to: 90m, 2h, 7d ago, or an ISO time (UTC).")
    ] = None,
    change: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, max=2**63 - 1, help="Go back to this history number, the last that stays."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Only images with such a change since then: model=VERSION decided it, head=IMAGE_ID was left or "
            "joined, cause=matched, since=TIME. Give it again for more: all must hold.",
        ),
    ] = None,
    new: Annotated[
        NewChoice, typer.Option(help="Images that came since then are decided again, or keep their heads.")
    ] = NewChoice.DECIDE,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the override.")] = "",
    author: Annotated[str, typer.Option(metavar="NAME", help="Who; without it the user of this machine.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, and list what would move.")] = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Bring images back to the heads that they had at an earlier time, or after a change.

    Embeddings, versions and deletes stay as they are. Overrides that stand win. The rollback is an override itself: it
    has a number, outlives a rebuild, and `neardup override undo` takes it back. It needs the write key. Given twice, it
    is done twice.

    Examples:

        neardup rollback --to 2h --dry-run

        neardup rollback --to 2026-11-28T07:00:00Z --where model=20261128-070000 --reason "a bad model"

        neardup rollback --change 48210 --where head=clothing-025bbb8f3b --where cause=matched --new keep
    """
    from core.overrides import OverrideKind, OverrideRequest
    from storage.limits import check_override
    from stream.requests import user_name

    asked = _asked(to, change, where or (), new)
    request = OverrideRequest(OverrideKind.ROLLBACK, author=author or user_name(), reason=reason, rollback=asked)
    check_override(request)
    say(context, signal, request, dry_run=dry_run, as_json=as_json)


def _asked(to: str | None, change: int | None, where: Sequence[str], new: NewChoice) -> RollbackRequest:
    """What to go back to.

    Raises:
        BadInputError: It names no moment or two, or a value is not valid.
    """
    from core.notifications import image_id
    from core.overrides import ChangeFilter, NewImages, RollbackRequest

    if (to is None) is (change is None):
        raise BadInputError("a rollback goes back to a time or to a change: give one of --to TIME and --change N")
    given = _filters(where)
    head, cause, since = given.get("head"), given.get("cause"), given.get("since")
    return RollbackRequest(
        to_ms=None if to is None else since_ms(to, now_s(), "--to"),
        to_change=change,
        since_ms=None if since is None else since_ms(since, now_s(), "--where since"),
        where=ChangeFilter(
            model=given.get("model"),
            head=None if head is None else image_id(head),
            cause=None if cause is None else _cause(cause),
        ),
        new=NewImages(new),
    )


def _filters(where: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in where:
        name, _, value = each.partition("=")
        if name not in _FILTERS or not value:
            raise BadInputError(f"--where takes {', '.join(f'{known}=VALUE' for known in _FILTERS)}, not {each!r}")
        if name in found:
            raise BadInputError(f"--where {name} is given twice, and all filters must hold")
        found[name] = value
    return found


def _cause(text: str) -> Cause:
    from core.types import Cause

    try:
        return Cause(text)
    except ValueError:
        raise BadInputError(f"there is no cause {text!r}: choose from {', '.join(Cause)}") from None
