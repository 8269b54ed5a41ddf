"""The routes of overrides: what people say about images. No record of the order, replay or rebuild undoes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from core.notifications import MAX_WORDS_BYTES
from core.overrides import ListedOverride, OverrideKind, OverrideRequest
from core.types import ImageId
from storage.api.access import author_of
from storage.api.errors import UnknownError
from storage.api.override_schemas import (
    LARGEST_NUMBER,
    ListedOverrideOut,
    OverrideIn,
    OverrideOutcomeOut,
    OverridesOut,
)
from storage.api.paths import OVERRIDES
from storage.api.schemas import Problem
from storage.interfaces import ClusterStore
from storage.limits import MAX_ID_BYTES, MAX_OVERRIDES, check_override
from storage.override_pages import override_of, override_page

__all__ = ["override_routes"]

DEFAULT_PAGE = 100
"""The overrides of a page when the caller gives no `limit`."""

_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {
        "model": Problem,
        "description": "A part is not valid, the target of a pin, split or merge is unknown, or the history of "
        "a rollback is not kept.",
    },
    503: {"model": Problem, "description": "The store cannot be read or written at present; try again."},
}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Problem,
        "description": "Another override says the contrary (`conflict`), or the running job does not know overrides "
        "(`mismatch`). Nothing was written.",
    }
}
_SAID: dict[int | str, dict[str, Any]] = {
    **_CONFLICT,
    201: {"model": OverrideOutcomeOut, "description": "It was said, and the images have moved."},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such override."}}

Number = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="The number of an override.")]


def override_routes(
    store: ClusterStore, max_page: int, now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6
) -> APIRouter:
    """The routes over one store.

    Args:
        store: Keeps the overrides.
        max_page: The largest `limit` of a page.
        now_ms: The clock, in milliseconds since the epoch.
    """
    router = APIRouter(prefix=OVERRIDES, responses=_ANSWERS, tags=["overrides"])
    most = min(max_page, MAX_OVERRIDES)
    page_start = Query(0, ge=0, le=LARGEST_NUMBER, description="Only overrides with higher numbers.")
    page_limit = Query(min(DEFAULT_PAGE, most), ge=1, le=most, description="The most overrides of a page.")
    named = Query(None, max_length=MAX_ID_BYTES, description="Only overrides that name this image.")
    by = Query("", max_length=MAX_WORDS_BYTES // 4, description="Who undoes it.")
    why = Query("", max_length=MAX_WORDS_BYTES // 4, description="Why.")

    def say(request: OverrideRequest, dry_run: bool) -> OverrideOutcomeOut:
        check_override(request)
        return OverrideOutcomeOut.of(store.override(request, now_ms(), dry_run=dry_run))

    @router.post("", responses=_SAID, name="say_override")
    def say_override(said: OverrideIn, request: Request, response: Response) -> OverrideOutcomeOut:
        """Says an override, which is kept for ever. 200: it was said before, or this is a dry run; nothing was written.

        The same call may be made again, unless it is a rollback, which is then said twice. A call of more than a minute
        is broken off, but what it has begun is done.
        """
        asked = said.request()
        outcome = say(replace(asked, author=author_of(request, asked.author)), said.dry_run)
        if outcome.created:
            response.status_code = 201
        return outcome

    @router.get("", name="list_overrides")
    def list_overrides(after: int = page_start, limit: int = page_limit, image_id: str | None = named) -> OverridesOut:
        """What was said, by number. A page of overrides with many images may have fewer than `limit`."""
        wanted = None if image_id is None else ImageId(image_id)
        return OverridesOut.of(override_page(store, after, limit, wanted))

    @router.get("/{number}", responses=_UNKNOWN, name="override")
    def override(number: Number) -> ListedOverrideOut:
        """One override, and how it stands."""
        return ListedOverrideOut.of_listed(_known(store, number))

    @router.delete("/{number}", responses={**_UNKNOWN, **_CONFLICT}, name="undo_override")
    def undo_override(number: Number, request: Request, author: str = by, reason: str = why) -> OverrideOutcomeOut:
        """Ends an override, by another one that is kept too. Its images are queued to be decided again.

        Those that a rollback moved go back at once.
        """
        _known(store, number)
        author = author_of(request, author)
        return say(OverrideRequest(OverrideKind.UNDO, undoes=number, author=author, reason=reason), dry_run=False)

    return router


def _known(store: ClusterStore, number: int) -> ListedOverride:
    found = override_of(store, number)
    if found is None:
        raise UnknownError("unknown-override", f"there is no override {number}")
    return found
