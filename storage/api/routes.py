"""The routes of the HTTP API about images, clusters and the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from core.errors import BadInputError
from core.types import ImageId
from storage.api.errors import GoneError, MovedError, UnknownError
from storage.api.page_tokens import PageTokens
from storage.api.paths import LOOKUP, IdInPath, id_of
from storage.api.schemas import (
    ClusterOut,
    DeletedProblem,
    HistoryOut,
    ImageOut,
    LookupIn,
    LookupOut,
    MembersOut,
    MovedProblem,
    OtherSignalProblem,
    Problem,
    SimilarOut,
    StatsOut,
)
from storage.interfaces import ClusterStore, StoreView
from storage.records import ImageRecord
from storage.tokens import OtherIdError, decode_token

__all__ = ["OTHER_SIGNAL", "known_image", "routes"]

DEFAULT_PAGE = 100
"""The members of a page when the caller gives no `limit`."""

_BAD: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The id, limit or page token is not valid."},
    503: {"model": Problem, "description": "The store cannot be read at present; try again."},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such image or cluster."}
}
_GONE: dict[int | str, dict[str, Any]] = {
    **_UNKNOWN,
    410: {"model": DeletedProblem, "description": "The image was deleted."},
}


OTHER_SIGNAL: dict[int | str, dict[str, Any]] = {
    409: {"model": OtherSignalProblem, "description": "The page before is of another signal."}
}
_MOVED: dict[int | str, dict[str, Any]] = {
    409: {
        "model": MovedProblem | OtherSignalProblem,
        "description": "The members are in another cluster since the page before, or that page is of another signal.",
    }
}

Order = Literal["oldest", "newest"]


def routes(store: ClusterStore, max_page: int, tokens: PageTokens) -> APIRouter:
    """The routes over one store.

    Args:
        store: The store that answers.
        max_page: The largest `limit` of a page.
        tokens: Of the signal.
    """
    router = APIRouter(prefix="/v1", responses=_BAD)
    page_limit = Query(min(DEFAULT_PAGE, max_page), ge=1, le=max_page, description="The most members of a page.")
    page_start = Query(None, max_length=200, description="The `next_page_token` of the page before.")
    page_order = Query("oldest", description="Which members come first: those that joined first, or last.")

    @router.get("/images/{image_id}", responses=_GONE, tags=["images"])
    async def image(image_id: IdInPath) -> ImageOut:
        """Which cluster an image belongs to, and why. 404: it is unknown, or still waits for its verdict."""
        asked = id_of(image_id)
        # To hand a request over to a thread, and its answer back, takes ten times as long as such a read.
        found = store.image_at_once(asked)
        if found is None:
            found = await run_in_threadpool(_known, store, asked)
        return ImageOut.of(found)

    @router.post(LOOKUP, tags=["images"])
    def lookup(asked: LookupIn) -> LookupOut:
        """The heads of many images in one call."""
        try:
            "".join(asked.image_ids).encode()
        except UnicodeEncodeError:
            raise BadInputError("an image id in the body is not valid Unicode") from None
        ids = list(dict.fromkeys(map(ImageId, asked.image_ids)))
        return LookupOut.of(ids, store.heads(ids))

    @router.get("/images/{image_id}/similar", responses={**_GONE, **_MOVED}, tags=["images"])
    def similar(
        image_id: IdInPath, limit: int = page_limit, page_token: str | None = page_start, order: Order = page_order
    ) -> SimilarOut:
        """All images of the cluster that an image belongs to, the image included, page by page."""
        asked, token = id_of(image_id), tokens.taken(page_token)
        with store.snapshot() as view:
            found = known_image(view, asked)
            try:
                page = view.members(found.head, limit, token, newest_first=order == "newest")
            except OtherIdError:
                raise MovedError(asked, found.head) from None
            cluster = view.cluster(found.head)
        return SimilarOut(
            image_id=asked,
            head=found.head,
            count=0 if cluster is None else cluster.count,
            members=list(page.items),
            next_page_token=tokens.given(page.next_token),
        )

    @router.get("/images/{image_id}/history", responses={**_UNKNOWN, **OTHER_SIGNAL}, tags=["images"])
    def history(image_id: IdInPath, limit: int = page_limit, page_token: str | None = page_start) -> HistoryOut:
        """Every change of an image's head that is kept, oldest first, also if it was deleted. 404: it never had one."""
        asked, token = id_of(image_id), tokens.taken(page_token)
        with store.snapshot() as view:
            page, first = view.changes(asked, limit, token), view.state().history_first
            known = page.items or token is not None
            if not known and (first == 1 or not (view.image(asked) or view.tombstone(asked))):
                raise _unknown_image(asked)
        return HistoryOut.of(asked, replace(page, next_token=tokens.given(page.next_token)), first)

    @router.get("/clusters/{head}", responses=_UNKNOWN, tags=["clusters"])
    def cluster(head: IdInPath) -> ClusterOut:
        """A cluster by its head. 404: no cluster has this head."""
        asked = id_of(head)
        found = store.cluster(asked)
        if found is None:
            raise _unknown_cluster(asked)
        return ClusterOut.of(found)

    @router.get("/clusters/{head}/members", responses={**_UNKNOWN, **_MOVED}, tags=["clusters"])
    def members(
        head: IdInPath, limit: int = page_limit, page_token: str | None = page_start, order: Order = page_order
    ) -> MembersOut:
        """The members of a cluster, page by page, in the order in which they joined."""
        asked, token = id_of(head), tokens.taken(page_token)
        with store.snapshot() as view:
            if view.cluster(asked) is None:
                image = view.image(asked)
                if token is not None and image is not None and image.head != asked:
                    decode_token(asked, token, newest_first=order == "newest")
                    raise MovedError(asked, image.head)
                raise _unknown_cluster(asked)
            page = view.members(asked, limit, token, newest_first=order == "newest")
        return MembersOut.of(replace(page, next_token=tokens.given(page.next_token)))

    @router.get("/stats", tags=["store"])
    def stats() -> StatsOut:
        """Counts and positions of the store."""
        with store.snapshot() as view:
            return StatsOut.of(view.state(), view.published())

    return router


def _known(store: ClusterStore, image_id: ImageId) -> ImageRecord:
    with store.snapshot() as view:
        return known_image(view, image_id)


def known_image(view: StoreView, image_id: ImageId) -> ImageRecord:
    """The last verdict on an image.

    Raises:
        UnknownError: There is none.
        GoneError: The image was deleted.
    """
    found = view.image(image_id)
    if found is not None:
        return found
    tombstone = view.tombstone(image_id)
    if tombstone is None:
        raise _unknown_image(image_id)
    raise GoneError(replace(tombstone, image_id=image_id))  # that of a forgotten image has its pseudonym


def _unknown_image(image_id: ImageId) -> UnknownError:
    return UnknownError("unknown-image", f"no verdict on the image {image_id!r}: it is unknown, or still waits")


def _unknown_cluster(head: ImageId) -> UnknownError:
    return UnknownError("unknown-cluster", f"no cluster has the head {head!r}")
