"""`neardup history`: the changes of an image's head, or who joined and who left a cluster."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from time import time as now_s
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import BadInputError
from stream.cli.choices import since_ms
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import note, show_json_with_list, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neardup.client import ApiClient, ClusterChange, HeadChange

__all__ = ["history"]

LOOKED_AT = 100_000
"""Changes of all heads that are looked at for a cluster, without --since: three seconds."""

_COLUMNS = ("number", "when", "from", "to", "cause", "score", "match", "trigger", "model")
_CLUSTER_COLUMNS = ("number", "when", "image", *_COLUMNS[2:])


def history(
    context: typer.Context,
    asked_id: Annotated[str, typer.Argument(metavar="ID", help="The image, or with --cluster the head of a cluster.")],
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Show who joined and who left the cluster of this head instead.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --cluster: look back to then. 90m, 2h, 7d ago, or an ISO time (UTC)."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Show only the last N changes.")] = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Show the changes of an image's head, or with --cluster those of a cluster's members, oldest first.

    Each change has its number, its time, the heads before and after, the cause, and what made it: the stream, an
    override or a rollback. Images that were deleted have a history too.

    History is not kept by cluster. So with --cluster the newest 100,000 changes of all heads are looked at, which takes
    three seconds, and the command says so if there are older ones. --since looks further back, or less far.

    Examples:

        neardup history clothing-0152ec2ee8

        neardup history clothing-0152ec2ee8 --json | jq -r '.changes[-1].cause'

        neardup history clothing-025bbb8f3b --cluster --limit 20

        neardup history clothing-025bbb8f3b --cluster --since 7d
    """
    if since is not None and not cluster:
        raise BadInputError("--since needs --cluster: of an image, every change is shown")
    with of(context).api(signal) as api:
        if not cluster:
            _show_image(api, asked_id, limit, as_json=as_json)
            return
        found = _cluster_changes(api, asked_id, limit, None if since is None else since_ms(since, now_s()))
    _show_cluster(found, as_json=as_json)


def _show_image(api: ApiClient, image_id: str, limit: int | None, *, as_json: bool) -> None:
    changes: deque[HeadChange] = deque(maxlen=limit)
    page = api.history_page(image_id, api.page_size)
    changes += page.changes
    while page.next_page_token is not None:
        page = api.history_page(image_id, api.page_size, page.next_page_token)
        changes += page.changes
    if as_json:
        about = {"image_id": image_id, "history_first": page.history_first}
        show_json_with_list(about, "changes", map(asdict, changes))
        return
    if changes:
        table(_COLUMNS, [(*_about(each), *_row(each)) for each in changes], right=("number", "score"))
    if not changes or (len(changes) != limit and changes[0].old_head is not None):
        _tell_swept(page.history_first)
    if changes and changes[-1].head == image_id:
        note("(it is a head: --cluster shows who joined and who left its cluster)", style="dim")


def _tell_swept(history_first: int) -> None:
    if history_first > 1:
        note(f"(changes of heads before number {history_first} are not kept any more)", style="dim")


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found of a cluster."""

    head: str
    changes: Sequence[ClusterChange]
    """Oldest first."""
    looked_from: int
    complete: bool
    """There are no older changes of heads, or none that was asked for."""
    limited: bool
    """So many were found as were asked for."""
    history_first: int


def _cluster_changes(api: ApiClient, head: str, limit: int | None, since: int | None) -> _Found:
    """The last changes of a cluster, as far back as it is asked for."""
    lowest = 0 if since is not None else api.stats().history_number - LOOKED_AT
    newest_first: list[ClusterChange] = []
    token = None
    while True:
        size = api.page_size if limit is None else min(limit - len(newest_first), api.page_size)
        page = api.cluster_history_page(head, size, token, since=since)
        newest_first += page.changes
        token, limited = page.next_page_token, len(newest_first) == limit
        if token is None or limited or page.looked_from <= lowest:
            return _Found(
                head, newest_first[::-1], page.looked_from, token is None, limited, history_first=page.history_first
            )


def _show_cluster(found: _Found, *, as_json: bool) -> None:
    if as_json:
        about = {name: getattr(found, name) for name in ("head", "looked_from", "complete", "history_first")}
        show_json_with_list(about, "changes", map(asdict, found.changes))
        return
    rows = [(*_about(each), each.image_id, *_row(each)) for each in found.changes]
    if rows:
        table(_CLUSTER_COLUMNS, rows, right=("number", "score"))
    if not found.complete and not found.limited:
        told = f"only the changes of heads from number {found.looked_from} on were looked at: --since looks further"
        note(f"({told})", style="dim")
    if found.looked_from == found.history_first:
        _tell_swept(found.history_first)
    if found.complete and not rows:
        note(f"(nobody joined or left the cluster of {found.head})", style="dim")


def _about(change: HeadChange) -> tuple[object, ...]:
    return change.history_number, change.decided_at


def _row(change: HeadChange) -> tuple[object, ...]:
    return (
        change.old_head,
        change.head or "(deleted)",
        change.cause,
        change.score,
        change.matched,
        change.trigger or "stream" if change.override is None else f"{change.trigger or 'override'} {change.override}",
        change.versions.model,
    )
