"""The route of a cluster's history: who joined it, and who left it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query

from core.types import ImageId
from storage.api.errors import UnknownError
from storage.api.history_schemas import ClusterHistoryOut
from storage.api.page_tokens import PageTokens
from storage.api.paths import IdInPath, id_of
from storage.api.routes import OTHER_SIGNAL
from storage.api.schemas import Problem
from storage.api.times import time_ms
from storage.cluster_history import cluster_changes
from storage.interfaces import ClusterStore, StoreView
from storage.past import number_before
from storage.tokens import decode_token, encode_token

__all__ = ["LOOKED_AT", "cluster_history_routes"]

DEFAULT_PAGE = 100
"""The changes of a page when the caller gives no `limit`."""

LOOKED_AT = 10_000
"""Changes of heads that one page reads: for about 0.3 seconds."""

_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The time, id, limit or page token is not valid."},
    404: {"model": Problem, "description": "There never was an image or a cluster of this id."},
    503: {"model": Problem, "description": "The store cannot be read at present; try again."},
    **OTHER_SIGNAL,
}


def cluster_history_routes(store: ClusterStore, max_page: int, tokens: PageTokens) -> APIRouter:
    """The route over one store.

    Args:
        store: The store that answers.
        max_page: The largest `limit` of a page.
        tokens: Of the signal.
    """
    router = APIRouter(prefix="/v1/clusters", responses=_ANSWERS, tags=["clusters"])
    page_limit = Query(min(DEFAULT_PAGE, max_page), ge=1, le=max_page, description="The most changes of a page.")
    page_start = Query(None, max_length=200, description="The `next_page_token` of the page before.")
    page_since = Query(
        None,
        max_length=40,
        description="Only changes from this time on: ISO 8601 with a zone, or milliseconds since the epoch, by the "
        "clock of the storage server, to the second. Give it with each page.",
    )

    @router.get(
        "/{head}/history",
        name="cluster_history",
        description="The changes by which images joined or left a cluster, the newest first. History is not kept by "
        f"head: a page reads the last {LOOKED_AT:,} changes of all heads, and tells those of the cluster. So a page "
        "may have few or none, and still a token for the changes before.",
    )
    def cluster_history(
        head: IdInPath, limit: int = page_limit, page_token: str | None = page_start, since: str | None = page_since
    ) -> ClusterHistoryOut:
        asked, sent = id_of(head), tokens.taken(page_token)
        since_ms = None if since is None else time_ms(since)
        with store.snapshot() as view:
            if sent is None:
                _check_known(view, asked)
            state = view.state()
            last, first = state.history_number, state.history_first
            before = last + 1 if sent is None else decode_token(asked, sent, newest_first=True)
            after = first - 1 if since_ms is None else number_before(view, since_ms)
            found = cluster_changes(view, asked, min(before, last + 1), limit, LOOKED_AT, after)
        token = None if found.complete else encode_token(asked, found.looked_from, newest_first=True)
        return ClusterHistoryOut.of(asked, found, tokens.given(token), first)

    return router


def _check_known(view: StoreView, head: ImageId) -> None:
    """A head was an image once, so it has a history of its own, or is there.

    Raises:
        UnknownError: There is nothing of this id.
    """
    known = view.cluster(head) or view.image(head) or view.tombstone(head)
    if known is None and next(view.history_of(head), None) is None:
        raise UnknownError("unknown-cluster", f"no image or cluster of the id {head!r} was ever known")
