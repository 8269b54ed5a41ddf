"""Errors as answers of the HTTP API: a JSON object with a word for programs and a sentence for humans."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from core.errors import BadInputError, NeardupError, UnavailableError
from storage.api.schemas import Problem
from storage.errors import StorageError

__all__ = ["UnknownError", "answer_errors"]

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1
"""How long a caller is told to wait when the store cannot be read."""


class UnknownError(NeardupError):
    """There is no such image or cluster."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


def answer_errors(app: FastAPI) -> None:
    """Registers the answers to the errors that routes raise."""

    @app.exception_handler(UnknownError)
    def unknown(request: Request, error: UnknownError) -> JSONResponse:
        return _problem(404, error.word, error)

    @app.exception_handler(BadInputError)
    def bad(request: Request, error: BadInputError) -> JSONResponse:
        return _problem(400, "bad-input", error)

    @app.exception_handler(UnavailableError)
    def unavailable(request: Request, error: UnavailableError) -> JSONResponse:
        return _problem(503, "unavailable", error, {"Retry-After": str(RETRY_AFTER_S)})

    @app.exception_handler(StorageError)
    def storage(request: Request, error: StorageError) -> JSONResponse:
        log.error("a request failed in the store", exc_info=error)
        return _problem(503, "storage", error, {"Retry-After": str(RETRY_AFTER_S)})


def _problem(status: int, word: str, error: Exception, headers: dict[str, str] | None = None) -> JSONResponse:
    content = Problem(error=word, message=str(error)).model_dump()
    return JSONResponse(content, status, headers)
