"""Keys of the HTTP API: everyone on loopback may read, from elsewhere a key is needed; writes always need theirs.

Health stays open, for those who watch the server, and so does the description of the API.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request

from core.access import AUTHORIZATION, Access, Right
from core.errors import DeniedError
from storage.api.errors import problem
from storage.api.paths import LOOKUP, App, Scope

__all__ = ["KeyCheck", "author_of"]

_OPEN = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})

_READS = frozenset({"GET", "HEAD", "OPTIONS"})

_OWNER = "neardup.owner"
"""The key of the owner in the scope of a request."""

_READ_BY_POST = f"/v1{LOOKUP}"


def author_of(request: Request, said: str) -> str:
    """Who writes: the owner of the key, else who the caller says that it is."""
    return str(request.scope.get(_OWNER, "")) or said


class KeyCheck:
    """Middleware that refuses requests without the right that they need."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Passes the request on, or answers 401 (no key that is known) or 403 (a key without this right)."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            reads = scope["method"] in _READS or scope["path"] == _READ_BY_POST
            needed = Right.READ if reads else Right.WRITE
            sent = next((value for name, value in scope["headers"] if name == AUTHORIZATION.encode()), b"")
            authorization = sent.decode("latin-1") or None
            scope[_OWNER] = self._access.owner(authorization)
            try:
                self._access.check(needed, authorization)
            except DeniedError as error:
                known = self._access.knows(authorization)
                status, word = (403, "denied") if known else (401, "no-key")
                headers = {} if known else {"WWW-Authenticate": "Bearer"}
                await problem(status, word, str(error), headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)
