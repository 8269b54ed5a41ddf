"""The routes of the past: heads and members as they were at a time."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from core.errors import BadInputError
from storage.api.past_schemas import PastHeadOut, PastMembersOut
from storage.api.paths import IdInPath, id_of
from storage.api.schemas import Problem, iso
from storage.api.times import time_ms
from storage.interfaces import ClusterStore, StoreView
from storage.past import MAX_CHANGES, check_kept, head_at, members_at, number_at

__all__ = ["past_routes"]

DEFAULT_PAGE = 100
"""The members of a page when the caller gives no `limit`."""

LARGEST = 2**63 - 1
"""Of an offset or a history number, as far as a request may name one."""

_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {
        "model": Problem,
        "description": "The time, id, limit, offset or history number is not valid, or the history of then was swept.",
    },
    503: {"model": Problem, "description": "The store cannot be read at present; try again."},
}

TimeInPath = Annotated[
    str,
    Path(
        description="ISO 8601 with a zone, or milliseconds since the epoch. It is compared with the clock of the "
        "storage server, to the second.",
        examples=["2026-11-28T07:00:00Z"],
    ),
]


def past_routes(store: ClusterStore, max_page: int) -> APIRouter:
    """The routes over one store.

    Args:
        store: The store that answers.
        max_page: The largest `limit` of a page.
    """
    router = APIRouter(prefix="/v1/at/{time}", responses=_ANSWERS, tags=["past"])
    page_limit = Query(min(DEFAULT_PAGE, max_page), ge=1, le=max_page, description="The most members of a page.")
    page_offset = Query(0, ge=0, le=LARGEST, description="How many members come before the page.")
    page_number = Query(
        None,
        ge=0,
        le=LARGEST,
        description="The `history_number` of the first page, instead of that of the time. So pages belong together, "
        "also where the time has not passed yet.",
    )

    @router.get("/images/{image_id}", name="past_image")
    def past_image(time: TimeInPath, image_id: IdInPath) -> PastHeadOut:
        """Which cluster an image belonged to, also one that was deleted since."""
        asked, at_ms = id_of(image_id), time_ms(time)
        with store.snapshot() as view:
            number = number_at(view, at_ms)
            head = head_at(view, asked, number)
        return PastHeadOut(image_id=asked, time=iso(at_ms), history_number=number, head=head)

    @router.get(
        "/clusters/{head}/members",
        name="past_members",
        description="The members of a cluster, page by page, in the order in which they had joined. At most "
        f"{MAX_CHANGES:,} changes of heads are read back from now; 400: more came since.",
    )
    def past_members(
        time: TimeInPath,
        head: IdInPath,
        limit: int = page_limit,
        offset: int = page_offset,
        history_number: int | None = page_number,
    ) -> PastMembersOut:
        asked, at_ms = id_of(head), time_ms(time)
        with store.snapshot() as view:
            number = number_at(view, at_ms) if history_number is None else _reached(view, history_number)
            members = members_at(view, asked, number, MAX_CHANGES)
        return PastMembersOut(
            head=asked,
            time=iso(at_ms),
            history_number=number,
            count=len(members),
            members=list(members[offset : offset + limit]),
        )

    return router


def _reached(view: StoreView, number: int) -> int:
    """A history number that the caller names.

    Raises:
        BadInputError: There is no such entry yet, or the history of then was swept.
    """
    last = view.state().history_number
    if number > last:
        raise BadInputError(f"the history ends at {last}, before {number}")
    check_kept(view, number)
    return number
