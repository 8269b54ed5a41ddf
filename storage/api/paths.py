"""Image ids in paths: any UTF-8, slashes included.

A web framework sees a path after its escapes are undone. Then the id `a/b` looks like two segments, and the image
`a/similar` looks like the images similar to `a`. So the path is read as it came over the wire:

    /v1/images/ID   /v1/images/ID/similar   /v1/images/ID/history   /v1/images/ID/explain
    /v1/clusters/ID   /v1/clusters/ID/members   /v1/clusters/ID/history
    /v1/at/TIME/images/ID   /v1/at/TIME/clusters/ID/members

A last segment that is literally one of these words is the question, and everything before it is the id. An id that
ends so is sent with its slash escaped (`a%2Fsimilar`). The id is passed on as one segment, escaped again.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Annotated, Any
from urllib.parse import quote, unquote_to_bytes

from fastapi import Path

from core.errors import BadInputError
from core.types import ImageId
from storage.limits import MAX_ID_BYTES

__all__ = ["LOOKUP", "OVERRIDES", "IdInPath", "WholeIds", "id_of"]

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

LOOKUP = "/images:lookup"
"""The path of the look-up of many images, below `/v1`. Its ids lie in the body: it is a POST that only reads."""

OVERRIDES = "/v1/overrides"
"""The path of overrides, whose requests may be larger than others."""

_QUESTIONS = {b"/v1/images/": (b"similar", b"history", b"explain"), b"/v1/clusters/": (b"members", b"history")}

_PAST_QUESTIONS: dict[bytes, tuple[bytes, ...]] = {b"images": (), b"clusters": (b"members",)}

_PAST = re.compile(rb"/v1/at/([^/]+)/(images|clusters)/(.*)", re.DOTALL)

IdInPath = Annotated[
    str,
    Path(
        description=f"An image id: 1 to {MAX_ID_BYTES} bytes of UTF-8, percent-encoded, slashes included.",
        examples=["clothing-0152ec2ee8"],
    ),
]
"""An id as a path parameter, still escaped; `id_of` gives the id."""


class WholeIds:
    """Middleware that makes the id in a path one segment."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Passes the request on with a rewritten path."""
        if scope["type"] == "http":
            raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
            scope = {**scope, "path": whole_id_path(raw.split(b"?", 1)[0], scope["path"])}
        await self._app(scope, receive, send)


def whole_id_path(raw: bytes, path: str) -> str:
    """The path with the id as one escaped segment; other paths unchanged.

    Args:
        raw: The path as it came over the wire.
        path: The same with escapes undone.
    """
    for prefix, questions in _QUESTIONS.items():
        if raw.startswith(prefix):
            return prefix.decode() + _whole(raw[len(prefix) :], questions)
    past = _PAST.fullmatch(raw)
    if past is None:
        return path
    # A zone has a plus sign, which means no space in a path.
    time, kind = quote(unquote_to_bytes(past[1]), safe=":+"), past[2]
    return f"/v1/at/{time}/{kind.decode()}/{_whole(past[3], _PAST_QUESTIONS[kind])}"


def _whole(escaped: bytes, questions: Collection[bytes]) -> str:
    """An id as one escaped segment, and the question after it, if it is one of these."""
    front, slash, last = escaped.rpartition(b"/")
    asked = bool(slash) and bool(front) and last in questions
    image_id = quote(unquote_to_bytes(front if asked else escaped), safe="")
    return image_id + (f"/{last.decode()}" if asked else "")


def id_of(parameter: str) -> ImageId:
    """The id in a path parameter. A text that is too long to be an id is treated as an unknown id.

    Raises:
        BadInputError: It is not UTF-8.
    """
    try:
        return ImageId(unquote_to_bytes(parameter).decode())
    except UnicodeDecodeError:
        raise BadInputError("the image id in the path is not UTF-8") from None
