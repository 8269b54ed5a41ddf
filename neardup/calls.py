"""Calls of the HTTP API: retried with backoff, with an error of `neardup.errors` for each answer that is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from neardup.errors import (
    BadRequestError,
    ConflictError,
    DeletedError,
    MovedError,
    NeardupClientError,
    NotFoundError,
    ServiceUnavailableError,
    SwitchedError,
)
from neardup.retry import RetryPolicy, retry_after_s

__all__ = ["ApiCalls"]

_Answer = TypeVar("_Answer")

_RETRIED = frozenset({429, 502, 503, 504})
"""Answers that say: not now."""

_ALIASES = "/v1/aliases/"
"""In an address: it is that of an alias."""

_ELSEWHERE = 307
"""The answer that names another address."""

_MOST_REDIRECTS = 5
"""So often a call is sent elsewhere."""


class ApiCalls:
    """Calls of one HTTP API. Threads may share it."""

    def __init__(self, url: str, http: httpx.Client, timeout_s: float, retry: RetryPolicy, key: str | None) -> None:
        """Takes the connection, which the caller closes.

        Args:
            url: Of the API, without a path or with that of an alias.
            http: Makes the calls.
            timeout_s: Of one call, in seconds.
            retry: How often and when a failed call is made again.
            key: Goes with each call.
        """
        self.url = url
        self.timeout_s = timeout_s
        self._http = http
        self._retry = retry
        self._aliased = _ALIASES in url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, parse: Callable[[dict[str, Any]], _Answer], path: str, **query: int | str | None) -> _Answer:
        """Reads; what is None of the query is left out.

        Raises:
            NeardupClientError: See `neardup.errors`.
        """
        return self._ask(parse, path, _said(query), None, self.timeout_s, once=False)

    def delete(self, parse: Callable[[dict[str, Any]], _Answer], path: str, **query: int | str | None) -> _Answer:
        """Deletes; what is None of the query is left out.

        Raises:
            NeardupClientError: See `neardup.errors`.
        """
        return self._ask(parse, path, _said(query), None, self.timeout_s, once=False, method="DELETE")

    def post(
        self,
        parse: Callable[[dict[str, Any]], _Answer],
        path: str,
        body: dict[str, Any],
        *,
        timeout_s: float | None = None,
        once: bool = False,
    ) -> _Answer:
        """Sends a body.

        Args:
            parse: Makes the answer.
            path: Of the API.
            body: Becomes JSON.
            timeout_s: Of this call; None: that of all.
            once: The call is not made again once it may have arrived.

        Raises:
            NeardupClientError: See `neardup.errors`.
        """
        return self._ask(parse, path, {}, body, timeout_s or self.timeout_s, once=once)

    def _ask(
        self,
        parse: Callable[[dict[str, Any]], _Answer],
        path: str,
        query: dict[str, int | str],
        body: dict[str, Any] | None,
        timeout_s: float,
        *,
        once: bool,
        method: str = "GET",
    ) -> _Answer:
        response = self._answered(method if body is None else "POST", path, query, body, timeout_s, once)
        if not response.is_success:
            raise self._refused(response)
        try:
            return parse(response.json())
        except (ValueError, KeyError, TypeError) as error:
            raise NeardupClientError(
                f"the HTTP API at {self.url} answered {path} in another form: {error!r}", response.status_code
            ) from error

    def _answered(
        self,
        method: str,
        path: str,
        query: dict[str, int | str],
        body: dict[str, Any] | None,
        timeout_s: float,
        once: bool,
    ) -> httpx.Response:
        """The first answer that is not to be retried; with `once`, of the first call that may have arrived."""
        tried = 0
        while True:
            tried += 1
            try:
                response = self._sent(method, path, query, body, timeout_s)
            except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise NeardupClientError(f"{self.url!r} is no address of an HTTP API: {error}") from error
            except httpx.TransportError as error:
                failure = ServiceUnavailableError(f"the HTTP API at {self.url}: {error or type(error).__name__}")
                failure.__cause__ = error
                arrived = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            except httpx.HTTPError as error:
                raise NeardupClientError(f"the HTTP API at {self.url}: {error}") from error
            else:
                if response.status_code not in _RETRIED:
                    return response
                failure, arrived = self._unavailable(response), True
            wait_s = self._retry.wait_s(tried, failure.retry_after_s)
            if wait_s is None or (once and arrived):
                raise failure
            time.sleep(wait_s)

    def _sent(
        self, method: str, path: str, query: dict[str, int | str], body: dict[str, Any] | None, timeout_s: float
    ) -> httpx.Response:
        """One answer; behind an alias, that of the signal which it names."""
        url = self.url + (path.removeprefix("/v1") if self._aliased else path)
        asked: dict[str, int | str] | None = query
        for _ in range(_MOST_REDIRECTS):
            response = self._http.request(
                method,
                url,
                params=asked,
                json=body,
                headers=self._headers,
                timeout=timeout_s,
                # The client of httpx leaves the key out where it follows to another address.
                follow_redirects=False if self._aliased else httpx.USE_CLIENT_DEFAULT,
            )
            elsewhere = response.headers.get("Location")
            if not self._aliased or response.status_code != _ELSEWHERE or elsewhere is None:
                break
            url, asked = elsewhere, None  # it has the query
        return response

    def _unavailable(self, response: httpx.Response) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"the HTTP API at {self.url}: {response.status_code} {_reason(response)}",
            response.status_code,
            retry_after_s(response.headers.get("Retry-After")),
        )

    def _refused(self, response: httpx.Response) -> NeardupClientError:
        reason, status = _reason(response), response.status_code
        match status:
            case 404:
                return NotFoundError(reason, status)
            case 410:
                return DeletedError(reason, status, _member(response, "deleted_at"))
            case 409 if _member(response, "error") == "conflict":
                return ConflictError(reason, status)
            case 409 if _member(response, "error") == "other-signal":
                return SwitchedError(reason, status, _member(response, "signal"))
            case 409 if _member(response, "error") in ("", "moved"):
                return MovedError(reason, status, _member(response, "head"))
            case 400 | 422:
                return BadRequestError(reason, status)
            case _:
                return NeardupClientError(f"the HTTP API at {self.url}: {status} {reason}", status)


def _said(query: dict[str, int | str | None]) -> dict[str, int | str]:
    """The part of a query that says something."""
    return {key: value for key, value in query.items() if value is not None}


def _member(response: httpx.Response, name: str) -> str:
    """A further member of an error; "" without it."""
    try:
        return str(response.json()[name])
    except (ValueError, KeyError, TypeError):
        return ""


def _reason(response: httpx.Response) -> str:
    """What an answer says of its error."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:300] or response.reason_phrase
    if isinstance(body, dict):
        for name in ("detail", "message", "error"):
            if isinstance(body.get(name), str):
                return str(body[name])
    return str(body)[:300]
