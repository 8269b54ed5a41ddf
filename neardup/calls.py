"""Calls of the HTTP API: retried with backoff, with an error of `neardup.errors` for each answer that is none.

Numbers of overrides, bulk moves and changes, and the pages of a listing, belong to one signal. Behind an alias, an
`Answering` remembers which one gave them, and the calls that use them go to that one alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
    UnknownAliasError,
)
from neardup.retry import RetryPolicy, retry_after_s

__all__ = ["Answering", "ApiCalls"]

_Answer = TypeVar("_Answer")

_RETRIED = frozenset({429, 502, 503, 504})
"""Answers that say: not now."""

_ALIASES = "/v1/aliases/"
"""In an address: it is that of an alias."""

_SIGNAL = "Neardup-Signal"
"""The header of an answer behind an alias, and of a call that this signal alone may answer."""

_ELSEWHERE = 307
"""The answer that names another address."""

_MOST_REDIRECTS = 5
"""So often a call is sent elsewhere."""


@dataclass(slots=True)
class Answering:
    """The signal that answers calls which belong together."""

    signal: str | None = None
    """That of the last answer; None: any may answer the next call, or there is no alias."""


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    """Of the API, without an alias."""
    timeout_s: float
    query: Mapping[str, int | str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    once: bool = False
    """It is not made again once it may have arrived."""
    signal: str | None = None
    """The only one that may answer; None: any."""


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

    def get(
        self,
        parse: Callable[[dict[str, Any]], _Answer],
        path: str,
        answering: Answering | None = None,
        **query: int | str | None,
    ) -> _Answer:
        """Reads; what is None of the query is left out.

        Raises:
            SwitchedError: The alias names another signal than the one that has answered so far.
            NeardupClientError: See `neardup.errors`.
        """
        return self._ask(parse, _Call("GET", path, self.timeout_s, _said(query)), answering)

    def delete(self, parse: Callable[[dict[str, Any]], _Answer], path: str, **query: int | str | None) -> _Answer:
        """Deletes; what is None of the query is left out.

        Raises:
            NeardupClientError: See `neardup.errors`.
        """
        return self._ask(parse, _Call("DELETE", path, self.timeout_s, _said(query)))

    def post(
        self,
        parse: Callable[[dict[str, Any]], _Answer],
        path: str,
        body: dict[str, Any],
        answering: Answering | None = None,
        *,
        timeout_s: float | None = None,
        once: bool = False,
    ) -> _Answer:
        """Sends a body.

        Args:
            parse: Makes the answer.
            path: Of the API.
            body: Becomes JSON.
            answering: The signal that is to answer, which this call may tell; None: any.
            timeout_s: Of this call; None: that of all.
            once: The call is not made again once it may have arrived.

        Raises:
            SwitchedError: The alias names another signal than the one that has answered so far.
            NeardupClientError: See `neardup.errors`.
        """
        return self._ask(parse, _Call("POST", path, timeout_s or self.timeout_s, body=body, once=once), answering)

    def _ask(
        self, parse: Callable[[dict[str, Any]], _Answer], call: _Call, answering: Answering | None = None
    ) -> _Answer:
        response = self._answered(call if answering is None else replace(call, signal=answering.signal))
        if not response.is_success:
            raise self._refused(response)
        try:
            answer = parse(response.json())
        except (ValueError, KeyError, TypeError) as error:
            raise NeardupClientError(
                f"the HTTP API at {self.url} answered {call.path} in another form: {error!r}", response.status_code
            ) from error
        if answering is not None:
            answering.signal = response.headers.get(_SIGNAL)
        return answer

    def _answered(self, call: _Call) -> httpx.Response:
        """The first answer that is not to be retried; with `once`, of the first call that may have arrived."""
        tried = 0
        while True:
            tried += 1
            try:
                response = self._sent(call)
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
            if wait_s is None or (call.once and arrived):
                raise failure
            time.sleep(wait_s)

    def _sent(self, call: _Call) -> httpx.Response:
        """One answer; behind an alias, that of the signal which it names."""
        url = self.url + (call.path.removeprefix("/v1") if self._aliased else call.path)
        query: Mapping[str, int | str] | None = call.query
        for _ in range(_MOST_REDIRECTS):
            response = self._http.request(
                call.method,
                url,
                params=query,
                json=call.body,
                headers=self._headers if call.signal is None else {**self._headers, _SIGNAL: call.signal},
                timeout=call.timeout_s,
                # The client of httpx leaves the key out where it follows to another address.
                follow_redirects=False if self._aliased else httpx.USE_CLIENT_DEFAULT,
            )
            elsewhere = response.headers.get("Location")
            if not self._aliased or response.status_code != _ELSEWHERE or elsewhere is None:
                break
            url, query = _elsewhere(httpx.URL(url), elsewhere), None  # it has the query
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
            case 404 if _member(response, "error") == "unknown-alias":
                return UnknownAliasError(reason, status)
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


def _elsewhere(asked: httpx.URL, location: str) -> str:
    """Where a call goes on, with the key.

    Raises:
        NeardupClientError: That is not what was asked for at another address, or anybody could read the key on its way.
    """
    found = asked.join(location)
    same = found.path.endswith(_ALIASES + asked.path.partition(_ALIASES)[2])
    if not same or (asked.scheme == "https" and found.scheme != "https"):
        raise NeardupClientError(
            f"{asked.scheme}://{asked.netloc.decode()} sends readers to {location[:300]}, which is "
            f"{'not encrypted' if same else 'another path'}: the key is not sent there",
            _ELSEWHERE,
        )
    return str(found)


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
