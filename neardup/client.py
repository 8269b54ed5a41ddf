"""The client of the HTTP API: images, clusters and counts of one signal.

It needs httpx alone. Calls only read, apart from overrides, which say nothing twice, and those that pause, resume or
cancel bulk moves. So each may be made again: answers 429, 502, 503 and 504 and connections that fail are retried with
backoff (`RetryPolicy`), and `Retry-After` is honoured. A rollback is the exception: once it was sent, it is not sent
again. Errors are those of `neardup.errors`.

>>> import httpx
>>> def service(request: httpx.Request) -> httpx.Response:
...     assert request.url.path == "/v1/clusters/cat-1/members"
...     token = request.url.params.get("page_token")
...     page = {"members": ["cat-2"], "next_page_token": None}
...     return httpx.Response(200, json=page if token else {"members": ["cat-1"], "next_page_token": "t"})
>>> http = httpx.Client(transport=httpx.MockTransport(service))  # left out where the service is a real one
>>> with ApiClient("http://localhost:18080", http=http) as api:
...     list(api.members("cat-1"))
['cat-1', 'cat-2']
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from neardup.answers import (
    ClusterChange,
    ClusterHistoryPage,
    ClusterInfo,
    HeadChange,
    HistoryPage,
    ImageInfo,
    ListedOverride,
    MembersPage,
    OverrideInfo,
    OverrideMove,
    OverrideResult,
    OverridesPage,
    PastHead,
    PastMembers,
    SimilarPage,
    StorePosition,
    StoreStats,
    VerdictVersions,
)
from neardup.calls import Answering, ApiCalls
from neardup.errors import BadRequestError
from neardup.operations import OperationCalls, OperationInfo, OperationsPage
from neardup.retry import RetryPolicy
from neardup.rollbacks import ChangeFilter, RollbackInfo, RollbackPoint, RollbackRequest, epoch_ms

__all__ = [
    "ApiClient",
    "ChangeFilter",
    "ClusterChange",
    "ClusterHistoryPage",
    "ClusterInfo",
    "HeadChange",
    "HistoryPage",
    "ImageInfo",
    "ListedOverride",
    "MembersPage",
    "OperationInfo",
    "OperationsPage",
    "OverrideInfo",
    "OverrideMove",
    "OverrideResult",
    "OverridesPage",
    "PastHead",
    "PastMembers",
    "RetryPolicy",
    "RollbackInfo",
    "RollbackPoint",
    "RollbackRequest",
    "SimilarPage",
    "StorePosition",
    "StoreStats",
    "VerdictVersions",
]

_Answer = TypeVar("_Answer")
_Page = TypeVar("_Page", MembersPage, SimilarPage)

_IDS = 1000
"""Images of one look-up."""

_OVERRIDES = 1000
"""The most overrides of one page."""

_MOVING_S = 60.0
"""How long the service may take at most for an override that moves many images, in seconds."""

_MOVING = frozenset({"merge", "pin", "rollback", "split", "undo"})
"""The overrides that may move many images."""


class ApiClient(OperationCalls):
    """A connection to one HTTP API; use it as a context manager. Threads may share it."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 10.0,
        page_size: int = 1000,
        retry: RetryPolicy | None = None,
        http: httpx.Client | None = None,
        key: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        """Prepares the connection; the service need not be up.

        Args:
            url: Of the API, without a path: `http://localhost:18080`. Or of an alias:
                `http://localhost:18080/v1/aliases/live` asks the signal that `live` names, wherever that is, with the
                same key. If the alias moves in between, a listing ends with SwitchedError, and so does a call that uses
                a number (of an override, a bulk move or a change): it goes to the signal that gave the last one.
            timeout_s: Of one request, in seconds.
            page_size: Members of a page that the iterators ask for; at most the service's `max_page`.
            retry: How often and when a failed call is made again; None: `RetryPolicy()`.
            http: A client with headers, proxies or certificates of the caller's, who also closes it. None: a plain one
                that asks no proxy.
            key: The service's key for reading, which is needed where the API listens beyond its own machine, or for
                writing, which overrides need everywhere.
            ca_file: A PEM file with the authorities that vouch for an `https` service; None: those of the system.
        """
        self.url = url.rstrip("/")
        self.page_size = page_size
        self._http = http or httpx.Client(trust_env=False, verify=_trusted(ca_file))
        self._closes = http is None
        self._calls = ApiCalls(self.url, self._http, timeout_s, retry or RetryPolicy(), key)
        # Which signal gave the numbers that the caller has.
        self._overrides, self._operations, self._changes = Answering(), Answering(), Answering()

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; a client that the caller brought stays open."""
        if self._closes:
            self._http.close()

    def image(self, image_id: str) -> ImageInfo:
        """The cluster of an image, and why it has this one.

        Raises:
            NotFoundError: The image is unknown, or waits for its verdict.
            DeletedError: The image was deleted.
            NeardupClientError: See `neardup.errors`.
        """
        return self._calls.get(ImageInfo.from_json, f"/v1/images/{_part(image_id)}")

    def heads(self, image_ids: Iterable[str]) -> dict[str, str]:
        """The heads of many images, in calls of 1,000. Images that are unknown, wait or were deleted are left out.

        Raises:
            BadRequestError: The service refuses an id.
            SwitchedError: The alias has moved between two of the calls.
            NeardupClientError: See `neardup.errors`.
        """
        found: dict[str, str] = {}
        left, answering = iter(image_ids), Answering()
        while asked := list(islice(left, _IDS)):
            _check_unicode("an image id", *asked)
            found |= self._calls.post(
                lambda answer: dict(answer["heads"]), "/v1/images:lookup", {"image_ids": asked}, answering
            )
        return found

    def history_page(self, image_id: str, limit: int | None = None, page_token: str | None = None) -> HistoryPage:
        """One page of the changes of an image's head, oldest first; without a limit the service chooses the size.

        Raises:
            NotFoundError: The image never had a head.
            BadRequestError: The limit or the token is refused.
            NeardupClientError: See `neardup.errors`.
        """
        path = f"/v1/images/{_part(image_id)}/history"
        return self._changes_of(HistoryPage.from_json, path, limit=limit, page_token=page_token)

    def history(self, image_id: str) -> Iterator[HeadChange]:
        """Every change of an image's head, oldest first, read page by page as they are taken.

        Raises:
            NeardupClientError: As `history_page`, while it is iterated.
        """
        token = None
        while True:
            page = self.history_page(image_id, self.page_size, token)
            yield from page.changes
            token = page.next_page_token
            if token is None:
                return

    def cluster(self, head: str) -> ClusterInfo:
        """A cluster: how many members it has.

        Raises:
            NotFoundError: No cluster has this head.
            NeardupClientError: See `neardup.errors`.
        """
        return self._calls.get(ClusterInfo.from_json, f"/v1/clusters/{_part(head)}")

    def cluster_history_page(
        self,
        head: str,
        limit: int | None = None,
        page_token: str | None = None,
        *,
        since: datetime | int | None = None,
    ) -> ClusterHistoryPage:
        """One page of the changes by which images joined or left a cluster, the newest first.

        The service reads a bounded number of changes of all heads for a page. So a page may be short or empty, and
        have a token all the same.

        Args:
            head: The head of the cluster, which may be gone.
            limit: How many at most; without a limit the service chooses the size.
            page_token: That of the page before.
            since: Only changes from this time on, with a zone or in milliseconds since the epoch. Give it with each
                page.

        Raises:
            NotFoundError: There never was an image or a cluster of this id.
            BadRequestError: The time has no zone, or the limit or the token is refused.
            NeardupClientError: See `neardup.errors`.
        """
        path = f"/v1/clusters/{_part(head)}/history"
        time = None if since is None else epoch_ms(since)
        return self._changes_of(ClusterHistoryPage.from_json, path, limit=limit, page_token=page_token, since=time)

    def cluster_history(self, head: str, *, since: datetime | int | None = None) -> Iterator[ClusterChange]:
        """The changes by which images joined or left a cluster, the newest first, read page by page as they are taken.

        Taken to the end, this makes the service read all changes of heads since then: three seconds for 100,000.

        Args:
            head: The head of the cluster, which may be gone.
            since: Only changes from this time on; None: all that are kept.

        Raises:
            NeardupClientError: As `cluster_history_page`, while it is iterated.
        """
        token = None
        while True:
            page = self.cluster_history_page(head, self.page_size, token, since=since)
            yield from page.changes
            token = page.next_page_token
            if token is None:
                return

    def members_page(
        self, head: str, limit: int | None = None, page_token: str | None = None, *, newest_first: bool = False
    ) -> MembersPage:
        """One page of a cluster; without a limit the service chooses the size.

        Raises:
            NotFoundError: No cluster has this head.
            MovedError: The cluster went into another one since the page before.
            BadRequestError: The limit or the token is refused.
            NeardupClientError: See `neardup.errors`.
        """
        path = f"/v1/clusters/{_part(head)}/members"
        order = "newest" if newest_first else None
        return self._calls.get(MembersPage.from_json, path, limit=limit, page_token=page_token, order=order)

    def similar_page(
        self, image_id: str, limit: int | None = None, page_token: str | None = None, *, newest_first: bool = False
    ) -> SimilarPage:
        """One page of the cluster that an image is in; without a limit the service chooses the size.

        Raises:
            NotFoundError: The image is unknown, or waits for its verdict.
            DeletedError: The image was deleted.
            MovedError: The image is in another cluster since the page before.
            BadRequestError: The limit or the token is refused.
            NeardupClientError: See `neardup.errors`.
        """
        path = f"/v1/images/{_part(image_id)}/similar"
        order = "newest" if newest_first else None
        return self._calls.get(SimilarPage.from_json, path, limit=limit, page_token=page_token, order=order)

    def members(self, head: str, limit: int | None = None, *, newest_first: bool = False) -> Iterator[str]:
        """The members of a cluster, read page by page as they are taken; at most `limit` of them.

        Raises:
            NeardupClientError: As `members_page`, while it is iterated.
        """
        return self._items(
            lambda size, token: self.members_page(head, size, token, newest_first=newest_first), limit, None
        )

    def similar(self, image_id: str, limit: int | None = None, first: SimilarPage | None = None) -> Iterator[str]:
        """The near-duplicates of an image, itself included, read page by page as they are taken.

        Args:
            image_id: The image.
            limit: How many at most; None: all.
            first: The first page, where the caller has it already.

        Raises:
            NeardupClientError: As `similar_page`, while it is iterated.
        """
        return self._items(lambda size, token: self.similar_page(image_id, size, token), limit, first)

    def explain(self, image_id: str, against: str | None = None) -> dict[str, Any]:
        """Why an image has its head: the recorded verdict, and the question asked again as of now and of its place.

        Args:
            image_id: The image.
            against: Another image, to compare it with.

        Returns:
            The answer as `docs/openapi.json` describes it.

        Raises:
            NotFoundError: One of the images is unknown, or waits for its verdict.
            NeardupClientError: See `neardup.errors`.
        """
        return self._calls.get(dict, f"/v1/images/{_part(image_id)}/explain", against=against)

    def forget(self, image_id: str, *, refuse_return: bool = False, author: str = "", reason: str = "") -> int:
        """Forgets an image: it is deleted, and erased from store, history and index within 24 hours.

        Args:
            image_id: The image.
            refuse_return: Every later version is ignored too, for ever.
            author: Who asks for it.
            reason: Why; it is kept, so it should not name the image.

        Returns:
            The position in the order; once the store has applied it (`stats`), the image is gone from every answer.

        Raises:
            BadRequestError: It is malformed.
            NeardupClientError: See `neardup.errors`; among others, the key is not the one for writing.
        """
        _check_unicode("an image id", image_id)
        _check_unicode("author or reason", author, reason)
        refuses = "true" if refuse_return else None
        path = f"/v1/images/{_part(image_id)}"
        return self._calls.delete(_position, path, forget="true", author=author, reason=reason, refuse_return=refuses)

    def override(
        self,
        kind: str,
        images: Iterable[str] = (),
        target: str | None = None,
        *,
        undoes: int | None = None,
        author: str = "",
        reason: str = "",
        dry_run: bool = False,
    ) -> OverrideResult:
        """Says an override, which the service keeps for ever. Saying again what stands writes nothing.

        Args:
            kind: `pin` (the images belong to the cluster of the target), `forbid` (they never share one with it),
                `split` (they leave the cluster of the target, its head), `merge` (their clusters go into that of the
                target), or `undo`. `rollback` is the method for rollbacks.
            images: At most 100,000, of a forbid 1,000; none for an undo.
            target: An image that the service knows; None for an undo.
            undoes: The number of the override that an undo ends.
            author: Who says it.
            reason: Why.
            dry_run: Write nothing, and tell what would move.

        Raises:
            ConflictError: Another override says the contrary.
            BadRequestError: It is malformed, or the target is unknown.
            SwitchedError: The alias names another signal than the one that gave the last numbers; of an undo.
            NeardupClientError: See `neardup.errors`; among others, the key is not the one for writing.
        """
        named = list(images)
        _check_unicode("an image id", *named, target or "")
        _check_unicode("author or reason", author, reason)
        said: dict[str, Any] = {
            "kind": kind,
            "images": named,
            "author": author,
            "reason": reason,
            "dry_run": dry_run,
        }
        if target is not None:
            said["target"] = target
        if undoes is not None:
            said["undoes"] = undoes
        return self._say(said, Answering() if undoes is None else self._overrides, once=False)

    def rollback(
        self, asked: RollbackRequest, *, author: str = "", reason: str = "", dry_run: bool = False
    ) -> OverrideResult:
        """Brings images back to the heads that they had at an earlier moment, by an override that can be undone.

        A rollback that is said again is another one, so the call is not made again after an error. `overrides` tells
        then whether it was said: a service that breaks off the call after a minute goes on with the work.

        Args:
            asked: The moment, and which changes since then are taken back.
            author: Who says it.
            reason: Why.
            dry_run: Write nothing, and tell what would move.

        Raises:
            BadRequestError: It is malformed, a time has no zone, or the history does not go back so far.
            SwitchedError: The alias names another signal than the one that gave the last numbers of changes.
            NeardupClientError: See `neardup.errors`; among others, the key is not the one for writing.
        """
        where = asked.where
        _check_unicode("model, head or cause", where.model or "", where.head or "", where.cause or "")
        _check_unicode("author or reason", author, reason)
        said = {
            "kind": "rollback",
            "rollback": asked.as_json(),
            "author": author,
            "reason": reason,
            "dry_run": dry_run,
        }
        return self._say(said, Answering(None if asked.to_change is None else self._changes.signal), once=not dry_run)

    def _say(self, said: dict[str, Any], answering: Answering, *, once: bool) -> OverrideResult:
        moves_many = said["kind"] in _MOVING
        timeout_s = max(self._calls.timeout_s, _MOVING_S) if moves_many else None
        found = self._calls.post(
            OverrideResult.from_json, "/v1/overrides", said, answering, timeout_s=timeout_s, once=once
        )
        self._overrides = answering
        return found

    def overrides_page(self, after: int = 0, limit: int | None = None, image_id: str | None = None) -> OverridesPage:
        """One page of the overrides with numbers above `after`; without a limit the service chooses the size.

        Args:
            after: The number of the last one that the caller has.
            limit: How many at most. A page of overrides with many images may have fewer.
            image_id: Only those that name this image.

        Raises:
            BadRequestError: The limit or the id is refused.
            SwitchedError: `after` is a number of another signal.
            NeardupClientError: See `neardup.errors`.
        """
        return self._overrides_page(after, limit, image_id, self._overrides if after else Answering())

    def _overrides_page(
        self, after: int, limit: int | None, image_id: str | None, answering: Answering
    ) -> OverridesPage:
        page = self._calls.get(
            OverridesPage.from_json, "/v1/overrides", answering, after=after, limit=limit, image_id=image_id
        )
        self._overrides = answering
        return page

    def overrides(self, image_id: str | None = None) -> Iterator[ListedOverride]:
        """All overrides by number, or those that name an image, read page by page as they are taken.

        Raises:
            NeardupClientError: As `overrides_page`, while it is iterated.
        """
        after: int | None = 0
        answering = Answering()
        while after is not None:
            page = self._overrides_page(after, min(self.page_size, _OVERRIDES), image_id, answering)
            yield from page.overrides
            after = page.next_after

    def override_of(self, number: int) -> ListedOverride:
        """The override with a number, and how it stands.

        Raises:
            NotFoundError: There is none.
            SwitchedError: The alias names another signal than the one that gave the last numbers.
            NeardupClientError: See `neardup.errors`.
        """
        return self._calls.get(ListedOverride.from_json, f"/v1/overrides/{number}", self._overrides)

    def head_at(self, image_id: str, time: datetime | int) -> PastHead:
        """The head of an image as it was at a time, also of an image that was deleted since.

        Args:
            image_id: The image.
            time: With a zone, or milliseconds since the epoch. The clock is that of the service.

        Raises:
            BadRequestError: The time has no zone, or the service refuses the id.
            NeardupClientError: See `neardup.errors`.
        """
        return self._changes_of(PastHead.from_json, f"/v1/at/{epoch_ms(time)}/images/{_part(image_id)}")

    def members_at(self, head: str, time: datetime | int) -> PastMembers:
        """All members of a cluster as they were at a time, read page by page. Nobody had an unknown head.

        The service reads the changes since then for each page: the longer ago, the slower.

        Args:
            head: The head of the cluster.
            time: With a zone, or milliseconds since the epoch. The clock is that of the service.

        Raises:
            BadRequestError: The time has no zone, or too many changes came since.
            SwitchedError: The alias has moved between two of the pages.
            NeardupClientError: See `neardup.errors`.
        """
        path = f"/v1/at/{epoch_ms(time)}/clusters/{_part(head)}/members"
        answering = Answering()
        first = page = self._calls.get(PastMembers.from_json, path, answering, limit=self.page_size)
        self._changes = answering
        members = list(page.members)
        while page.members and len(members) < first.count:
            page = self._calls.get(
                PastMembers.from_json,
                path,
                answering,
                limit=self.page_size,
                offset=len(members),
                history_number=first.history_number,
            )
            members += page.members
        return replace(first, members=tuple(members))

    def stats(self) -> StoreStats:
        """Counts and positions of the store.

        Raises:
            NeardupClientError: See `neardup.errors`.
        """
        return self._changes_of(StoreStats.from_json, "/v1/stats")

    def _changes_of(self, parse: Callable[[dict[str, Any]], _Answer], path: str, **query: int | str | None) -> _Answer:
        """Reads something with numbers of changes, which those of this signal are from now on."""
        answering = Answering()
        found = self._calls.get(parse, path, answering, **query)
        self._changes = answering
        return found

    def _items(self, read: Callable[[int, str | None], _Page], limit: int | None, first: _Page | None) -> Iterator[str]:
        left, page, token = limit, first, None
        while left is None or left > 0:
            if page is None:
                page = read(self.page_size if left is None else min(left, self.page_size), token)
            members = page.members[:left]
            yield from members
            left = None if left is None else left - len(members)
            token = page.next_page_token
            if token is None:
                return
            page = None


def _trusted(ca_file: str | None) -> ssl.SSLContext | bool:
    """The authorities that a connection trusts; True: those of the system."""
    return True if ca_file is None else ssl.create_default_context(cafile=ca_file)


def _check_unicode(what: str, *texts: str) -> None:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise BadRequestError(f"{what} is not valid Unicode: {error}") from error


def _position(answer: dict[str, Any]) -> int:
    return int(answer["position"])


def _part(text: str) -> str:
    """An id as one part of a path: slashes, percent signs and all else are escaped."""
    if not text:
        raise BadRequestError("an image id has at least one character, this one is empty")
    escaped = quote(text, safe="")
    # A part that is only dots would be a step in the path, and the HTTP client would remove it.
    return escaped.replace(".", "%2E") if escaped in (".", "..") else escaped
