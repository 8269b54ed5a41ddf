"""What holds for every request: HEAD is answered wherever GET is, and bodies have a length and a limit."""

from __future__ import annotations

from typing import Any

from storage.api.errors import problem
from storage.api.paths import OVERRIDES, App, Scope

__all__ = ["MAX_BODY_BYTES", "MAX_OVERRIDE_BYTES", "AnyRequest"]

MAX_BODY_BYTES = 1 << 20
"""The largest body that a request may announce."""

MAX_OVERRIDE_BYTES = 1 << 25
"""The largest body of an override, which may name 100,000 images with the longest ids."""


class AnyRequest:
    """Middleware that answers HEAD with the headers of GET, and refuses large bodies and those without a length."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Passes the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers:
            detail = "the body comes in pieces of which nobody knows how many: send its length"
            await problem(411, "no-length", detail, {"Connection": "close"})(scope, receive, send)
            return
        announced = headers.get(b"content-length", b"0")
        most = MAX_OVERRIDE_BYTES if scope["path"] == OVERRIDES else MAX_BODY_BYTES
        if not announced.isdigit() or int(announced) > most:
            said = announced.decode("latin-1")[:32]
            detail = f"the body has {said} bytes, at most {most} are taken"
            await problem(413, "too-large", detail, {"Connection": "close"})(scope, receive, send)
            return
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Any) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, without_body)
