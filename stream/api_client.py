"""A client of the HTTP API: what the storage server tells of images, clusters and itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from core.errors import BadInputError, ServiceError, UnavailableError
from stream.errors import NotFoundError

__all__ = ["ApiClient", "Json"]

Json = dict[str, Any]
"""One JSON object of an answer."""


class ApiClient:
    """A connection to one HTTP API; use it as a context manager."""

    def __init__(
        self,
        url: str,
        *,
        max_page: int = 1000,
        timeout_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Prepares the connection; the server need not be up.

        Args:
            url: As `ApiSettings.url`.
            max_page: The largest page that the server gives.
            timeout_s: Of one request.
            transport: Another way to the server than TCP.
        """
        self.url = url
        self.max_page = max_page
        # The parts are near: a proxy from the environment is not asked.
        self._client = httpx.Client(base_url=url, timeout=timeout_s, transport=transport, trust_env=False)

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def image(self, image_id: str) -> Json:
        """Where an image stands, and why.

        Raises:
            NotFoundError: The image is unknown.
            ServiceError: The API does not answer, or not well.
        """
        return self._get(f"/v1/images/{_part(image_id)}")

    def cluster(self, head: str) -> Json:
        """A cluster: its head and how many members it has.

        Raises:
            NotFoundError: No cluster has this head.
            ServiceError: The API does not answer, or not well.
        """
        return self._get(f"/v1/clusters/{_part(head)}")

    def members_page(self, head: str, limit: int | None = None, page_token: str | None = None) -> Json:
        """One page of a cluster: `members`, and `next_page_token` or null.

        Raises:
            NotFoundError: No cluster has this head.
            BadInputError: The limit or the token is refused.
            ServiceError: The API does not answer, or not well.
        """
        return self._get(f"/v1/clusters/{_part(head)}/members", limit=limit, page_token=page_token)

    def similar_page(self, image_id: str, limit: int | None = None, page_token: str | None = None) -> Json:
        """One page of the cluster that an image is in: `head`, `count`, `members`, `next_page_token` or null.

        Raises:
            NotFoundError: The image is unknown.
            BadInputError: The limit or the token is refused.
            ServiceError: The API does not answer, or not well.
        """
        return self._get(f"/v1/images/{_part(image_id)}/similar", limit=limit, page_token=page_token)

    def members(self, head: str, limit: int | None = None) -> Iterator[str]:
        """The members of a cluster, page by page; at most `limit` of them."""
        return self._items(lambda size, token: self.members_page(head, size, token), limit, None)

    def similar(self, image_id: str, limit: int | None = None, first: Json | None = None) -> Iterator[str]:
        """The members of the cluster that an image is in, page by page; at most `limit` of them.

        Args:
            image_id: The image.
            limit: How many at most; None: all.
            first: The first page, where the caller has it already.
        """
        return self._items(lambda size, token: self.similar_page(image_id, size, token), limit, first)

    def stats(self) -> Json:
        """Counts and positions of the store."""
        return self._get("/v1/stats")

    def _items(self, page: Callable[[int, str | None], Json], limit: int | None, first: Json | None) -> Iterator[str]:
        left = limit
        answer = first
        token: str | None = None
        while left is None or left > 0:
            if answer is None:
                answer = page(self.max_page if left is None else min(left, self.max_page), token)
            members: list[str] = answer["members"][:left]
            yield from members
            left = None if left is None else left - len(members)
            token = answer["next_page_token"]
            if token is None:
                return
            answer = None

    def _get(self, path: str, **query: object) -> Json:
        asked = {key: value for key, value in query.items() if value is not None}
        try:
            response = self._client.get(path, params=asked)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            raise UnavailableError(f"the HTTP API at {self.url}: {error or type(error).__name__}") from error
        if response.is_success:
            answer: Json = response.json()
            return answer
        reason = _reason(response)
        match response.status_code:
            case 404:
                raise NotFoundError(reason)
            case 400 | 422:
                raise BadInputError(reason)
            case 429 | 502 | 503 | 504:
                raise UnavailableError(f"the HTTP API at {self.url}: {response.status_code} {reason}")
            case status:
                raise ServiceError(f"the HTTP API at {self.url}: {status} {reason}")


def _part(text: str) -> str:
    """An id as one part of a path: slashes, percent signs and all else are escaped."""
    escaped = quote(text, safe="")
    # Alone they would be steps in the path, and taken out on the way.
    return escaped.replace(".", "%2E") if escaped in (".", "..") else escaped


def _reason(response: httpx.Response) -> str:
    """What an answer says of its error."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:300] or response.reason_phrase
    if isinstance(body, dict):
        for name in ("message", "detail", "error"):
            if isinstance(body.get(name), str):
                return str(body[name])
    return str(body)[:300]
