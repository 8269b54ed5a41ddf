"""The routes of bulk moves: how far each is; pause, resume and cancel."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.convertors import StringConvertor, register_url_convertor

from storage.api.errors import UnknownError
from storage.api.operation_schemas import OperationOut, OperationsOut
from storage.api.override_schemas import LARGEST_NUMBER
from storage.api.schemas import Problem
from storage.interfaces import ClusterStore
from storage.limits import MAX_OPERATIONS
from storage.operation_pages import ListedOperation, listed_operation, operation_page

__all__ = ["operation_routes"]

DEFAULT_PAGE = 100
"""The bulk moves of a page when the caller gives no `limit`."""

_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "A part is not valid, or the bulk move is not in a state for this."},
    503: {"model": Problem, "description": "The store cannot be read or written at present; try again."},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such bulk move."}}


class _BeforeColon(StringConvertor):
    """A segment without a colon: `17:pause` is no number, so its path has the one method that is described."""

    regex = "[^/:]+"


register_url_convertor("before_colon", _BeforeColon())

Number = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="The number of a bulk move.")]


def operation_routes(store: ClusterStore, max_page: int) -> APIRouter:
    """The routes over one store.

    Args:
        store: Keeps the bulk moves.
        max_page: The largest `limit` of a page.
    """
    router = APIRouter(prefix="/v1/operations", responses=_ANSWERS, tags=["operations"])
    most = min(max_page, MAX_OPERATIONS)
    page_start = Query(0, ge=0, le=LARGEST_NUMBER, description="Only bulk moves with higher numbers.")
    page_limit = Query(min(DEFAULT_PAGE, most), ge=1, le=most, description="The most bulk moves of a page.")

    def paused(number: int, rests: bool) -> OperationOut:
        _known(store, number)
        store.pause(number, rests=rests)
        return OperationOut.of(_known(store, number))

    @router.get("", name="list_operations")
    def list_operations(after: int = page_start, limit: int = page_limit) -> OperationsOut:
        """Bulk moves by number: those that are over, the one under way, and the one that is planned."""
        return OperationsOut.of(operation_page(store, after, limit))

    @router.post("/{number}:pause", responses=_UNKNOWN, name="pause_operation")
    def pause(number: Number) -> OperationOut:
        """The rewriting of its records rests. Readers see the whole move all the same. 400: it is not under way."""
        return paused(number, rests=True)

    @router.post("/{number}:resume", responses=_UNKNOWN, name="resume_operation")
    def resume(number: Number) -> OperationOut:
        """The rewriting goes on. 400: it is not under way."""
        return paused(number, rests=False)

    @router.post("/{number}:cancel", responses=_UNKNOWN, status_code=202, name="cancel_operation")
    def cancel(number: Number) -> OperationOut:
        """Its planning ends at the next step: nothing moves, and no override is kept.

        400: it is not being planned, or is a forget.

        A bulk move that has begun is seen by everybody: undo its override instead.
        """
        found = _known(store, number)
        store.cancel(number)
        return OperationOut.of(found)

    @router.get("/{number:before_colon}", responses=_UNKNOWN, name="operation")
    def operation(number: Number) -> OperationOut:
        """One bulk move, and how far it is."""
        return OperationOut.of(_known(store, number))

    return router


def _known(store: ClusterStore, number: int) -> ListedOperation:
    found = listed_operation(store, number)
    if found is None:
        raise UnknownError("unknown-operation", f"there is no bulk move {number}")
    return found
