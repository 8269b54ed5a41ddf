"""Errors as answers of the HTTP API: `application/problem+json` (RFC 9457), the same form for every error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from core.errors import BadInputError, ConflictError, MismatchError, NeardupError, UnavailableError
from core.types import ImageId, Tombstone
from storage.api.page_tokens import OtherSignalError
from storage.api.schemas import Problem, iso
from storage.errors import StorageError

__all__ = ["PROBLEM_JSON", "GoneError", "MovedError", "UnknownError", "answer_errors", "problem"]

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
"""The media type of every error."""

RETRY_AFTER_S = 1
"""How long a caller is told to wait when the store cannot be read."""

_WORDS = {404: "unknown-path", 405: "no-such-method"}
"""What the framework's own errors are called."""

_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
"""Those that routes may have."""


class UnknownError(NeardupError):
    """There is no such image, cluster, override or alias."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


class GoneError(NeardupError):
    """The image was deleted."""

    def __init__(self, tombstone: Tombstone) -> None:
        self.deleted_at = iso(tombstone.deleted_at_ms)
        super().__init__(f"the image {tombstone.image_id!r} was deleted at {self.deleted_at}")


class MovedError(NeardupError):
    """What a page token lists is in another cluster now."""

    def __init__(self, listed: ImageId, head: ImageId) -> None:
        self.head = head
        super().__init__(
            f"since the page before, {listed!r} came into the cluster of {head!r}: list that one from its start"
        )


def answer_errors(app: FastAPI) -> None:
    """Registers the answers to the errors that routes and the framework raise."""

    @app.exception_handler(UnknownError)
    def unknown(request: Request, error: UnknownError) -> JSONResponse:
        return problem(404, error.word, str(error))

    @app.exception_handler(GoneError)
    def gone(request: Request, error: GoneError) -> JSONResponse:
        return problem(410, "deleted-image", str(error), deleted_at=error.deleted_at)

    @app.exception_handler(MovedError)
    def moved(request: Request, error: MovedError) -> JSONResponse:
        return problem(409, "moved", str(error), head=error.head)

    @app.exception_handler(BadInputError)
    def bad(request: Request, error: BadInputError) -> JSONResponse:
        return problem(400, "bad-input", str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = (f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        return problem(400, "bad-input", "; ".join(faults))

    @app.exception_handler(ConflictError)
    def conflict(request: Request, error: ConflictError) -> JSONResponse:
        return problem(409, "conflict", str(error))

    @app.exception_handler(OtherSignalError)
    def other_signal(request: Request, error: OtherSignalError) -> JSONResponse:
        return problem(409, "other-signal", str(error), signal=error.signal)

    @app.exception_handler(MismatchError)
    def mismatch(request: Request, error: MismatchError) -> JSONResponse:
        return problem(409, "mismatch", str(error))

    @app.exception_handler(UnavailableError)
    def unavailable(request: Request, error: UnavailableError) -> JSONResponse:
        return problem(503, "unavailable", str(error), {"Retry-After": str(RETRY_AFTER_S)})

    @app.exception_handler(StorageError)
    def storage(request: Request, error: StorageError) -> JSONResponse:
        log.error("a request failed in the store", exc_info=error)
        return problem(503, "storage", str(error), {"Retry-After": str(RETRY_AFTER_S)})

    @app.exception_handler(HTTPException)
    def framework(request: Request, error: HTTPException) -> JSONResponse:
        word = _WORDS.get(error.status_code, "refused")
        detail = f"{request.method} {request.url.path}: {error.detail}"
        allowed = {"Allow": _allowed(request)} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else {}
        return problem(error.status_code, word, detail, {**(error.headers or {}), **allowed})

    @app.exception_handler(Exception)
    def fault(request: Request, error: Exception) -> JSONResponse:
        # The framework raises it again, so that it is logged with its traceback.
        return problem(500, "fault", "the server failed on this request; its log says why")


def _allowed(request: Request) -> str:
    """The methods of a path. The framework names only those of the first route that has it."""
    asked = {method: {**request.scope, "method": method} for method in _METHODS}
    routes = request.app.routes
    return ", ".join(
        method for method, scope in asked.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)
    )


def problem(status: int, word: str, detail: str, headers: Mapping[str, str] | None = None, **more: str) -> JSONResponse:
    """The answer to an error.

    Args:
        status: Of HTTP.
        word: A fixed word for programs.
        detail: A sentence for humans.
        headers: Further headers.
        more: Further members of this kind of problem.
    """
    said = Problem(
        type=f"urn:neardup:problem:{word}", title=HTTPStatus(status).phrase, status=status, error=word, detail=detail
    )
    return JSONResponse({**said.model_dump(), **more}, status, headers, media_type=PROBLEM_JSON)
