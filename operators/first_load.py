"""The first load of a service: storage and search load by themselves, and are asked here for what comes next. Pure.

    both load      storage first: from then on the order waits
    both ready     storage swaps, which decides it, then search follows
    one fails      the other is ended, so that nothing of the load stays, and it may begin again

Each look does at most what comes next and waits for nothing. So anybody may look, also after a crash, or twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from core.errors import MismatchError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState

__all__ = ["FirstLoad", "LoadingSearch", "LoadingStorage", "abort", "begin", "begin_once", "follow", "look"]

_ENDED = (LoadState.FAILED, LoadState.ABORTED)

_ORDER = (
    LoadState.FAILED,
    LoadState.ABORTED,
    LoadState.WAITING,
    LoadState.LOADING,
    LoadState.READY,
    LoadState.LIVE,
)
"""Of two servers, the state that comes first here is that of the load."""


_LIVE_IN_STORAGE = "storage is live with it: load it again, or run `neardup index build --from storage`"


class Followed(Protocol):
    """What a server follows."""

    @property
    def log_id(self) -> str:
        """Kafka's topic id of `joined`."""
        ...

    @property
    def base(self) -> int:
        """The position of its offset 0."""
        ...


class LoadingStorage(Protocol):
    """What is asked of the storage server. Its errors are those of its client."""

    def load(self, request: LoadRequest) -> LoadReport:
        """Begins, or goes on."""
        ...

    def load_status(self, manifest_id: str = "") -> LoadReport | None:
        """How far a load is, without an id the first load that was asked for last; None: none was."""
        ...

    def abort_load(self, manifest_id: str) -> LoadReport:
        """Ends it."""
        ...

    def finish_load(self, manifest_id: str) -> LoadReport:
        """Makes it live."""
        ...

    def describe(self) -> Followed:
        """What the store has applied."""
        ...


class LoadingSearch(Protocol):
    """What is asked of the search server."""

    def load(self, request: LoadRequest) -> LoadReport:
        """Begins, or goes on."""
        ...

    def load_status(self) -> LoadReport | None:
        """How far the load is that was asked for last; None: none was."""
        ...

    def abort_load(self, manifest_id: str) -> LoadReport:
        """Ends it."""
        ...

    def adopt_load(self, manifest_id: str, log_id: str, base: int) -> LoadReport:
        """Makes it live, once storage is: the server starts again, and says `ready` until then."""
        ...

    def describe(self) -> Followed:
        """What the index has applied."""
        ...


@dataclass(frozen=True, slots=True)
class FirstLoad:
    """How far a load is in both servers."""

    storage: LoadReport | None
    search: LoadReport | None
    """None, too, if its index was built anew since the load."""

    @property
    def reports(self) -> list[LoadReport]:
        """Of those that were asked for one."""
        return [each for each in (self.storage, self.search) if each is not None]

    @property
    def state(self) -> LoadState | None:
        """Of the whole; None: none was asked for. It is live when both are."""
        states = {each.state for each in self.reports}
        return next((state for state in _ORDER if state in states), None)

    @property
    def rows_done(self) -> int:
        """Rows that both have."""
        return min((each.rows_done for each in self.reports), default=0)

    @property
    def rows_total(self) -> int:
        """Of the manifest; 0: it was not read yet."""
        return max((each.rows_total for each in self.reports), default=0)


def begin(request: LoadRequest, storage: LoadingStorage, search: LoadingSearch) -> FirstLoad:
    """Begins a load, goes on with it, or begins it again after it has ended.

    Raises:
        MismatchError: Something was applied already, or another load is under way or live.
        UnavailableError: A server does not answer: call again.
    """
    return _begin(request, storage, search, _of(request, storage.load_status()))


def begin_once(request: LoadRequest, storage: LoadingStorage, search: LoadingSearch) -> FirstLoad:
    """Begins a load, or goes on with it. One that has ended stays so.

    Raises:
        MismatchError: Something was applied already, or another load is under way or live.
        UnavailableError: A server does not answer: call again.
    """
    indexed, stored = _of(request, search.load_status()), _of(request, storage.load_status())
    if any(each is not None and each.state in (*_ENDED, LoadState.LIVE) for each in (stored, indexed)):
        return look(request, storage, search)
    return _begin(request, storage, search, stored)


def look(request: LoadRequest, storage: LoadingStorage, search: LoadingSearch) -> FirstLoad:
    """Asks a load that was begun for what comes next, and tells how far it is. One that has ended stays so.

    Raises:
        MismatchError: Another load is under way or live in search.
        UnavailableError: A server does not answer: look again.
    """
    stored, indexed = _of(request, storage.load_status()), _of(request, search.load_status())
    if stored is None:
        return FirstLoad(None, indexed)
    if indexed is None:
        if stored.state in _ENDED or (stored.state is LoadState.LIVE and _was_built(request, storage, search)):
            return FirstLoad(stored, None)
        indexed = search.load(request)
    if stored.state is LoadState.LIVE:
        if indexed.state is LoadState.READY:
            indexed = _adopt(request.manifest_id, storage, search)
    elif stored.state in _ENDED:
        if indexed.state not in _ENDED:
            indexed = search.abort_load(request.manifest_id)
    elif indexed.state in _ENDED:
        stored = storage.abort_load(request.manifest_id)
    elif stored.state is indexed.state is LoadState.READY:
        stored = storage.finish_load(request.manifest_id)
    return FirstLoad(stored, indexed)


def follow(storage: LoadingStorage, search: LoadingSearch) -> FirstLoad:
    """Lets search follow a load that is live in storage, as before a start. Nothing else is begun or ended.

    Raises:
        UnavailableError: Search was made to follow, and starts again: what it says of itself is over. Look again.
    """
    stored, indexed = storage.load_status(), search.load_status()
    if stored is not None and indexed is not None and stored.state is LoadState.LIVE:
        same = stored.request.manifest_id == indexed.request.manifest_id
        if same and indexed.state is LoadState.READY:
            indexed = _adopt(stored.request.manifest_id, storage, search)
            if indexed.state is not LoadState.LIVE:
                raise UnavailableError("the search server starts again with the first load: try again soon")
    return FirstLoad(stored, indexed)


def abort(manifest_id: str, storage: LoadingStorage, search: LoadingSearch) -> FirstLoad:
    """Ends a load in both servers. One that has ended stays as it is.

    If it is live in storage, but search has not followed, search's part ends, and its detail says what is left to do.

    Raises:
        MismatchError: It is live, or there is no such load.
        UnavailableError: A server does not answer: call again.
    """
    stored, indexed = storage.load_status(), search.load_status()
    found = [each for each in (stored, indexed) if each is not None and each.request.manifest_id == manifest_id]
    if not found:
        raise MismatchError(f"no load of the manifest {manifest_id} was asked for")
    live = stored in found and stored is not None and stored.state is LoadState.LIVE
    if live and indexed in found and indexed is not None and indexed.state not in (*_ENDED, LoadState.LIVE):
        return FirstLoad(stored, replace(search.abort_load(manifest_id), detail=_LIVE_IN_STORAGE))
    if stored in found:  # it decides: if it is live, so is the load
        stored = storage.abort_load(manifest_id)
    if indexed in found:
        indexed = search.abort_load(manifest_id)
    return FirstLoad(stored, indexed)


def _begin(request: LoadRequest, storage: LoadingStorage, search: LoadingSearch, known: LoadReport | None) -> FirstLoad:
    """`known` is what storage says of it before."""
    stored = storage.load(request)
    if stored.state is LoadState.LIVE and _was_built(request, storage, search):
        return FirstLoad(stored, None)
    try:
        indexed = search.load(request)
    except MismatchError:
        if known is None or known.state in _ENDED:  # this call began it
            storage.abort_load(request.manifest_id)
        raise
    return FirstLoad(stored, indexed)


def _was_built(request: LoadRequest, storage: LoadingStorage, search: LoadingSearch) -> bool:
    """Whether search needs no load once storage is live: its index was built anew, and follows what storage follows."""
    if _of(request, search.load_status()) is not None:
        return False
    stored, indexed = storage.describe(), search.describe()
    return (stored.log_id, stored.base) == (indexed.log_id, indexed.base)


def _adopt(manifest_id: str, storage: LoadingStorage, search: LoadingSearch) -> LoadReport:
    """Lets search follow, before the log that storage follows: `joined` may have been made anew meanwhile."""
    followed = storage.describe()
    return search.adopt_load(manifest_id, followed.log_id, followed.base)


def _of(request: LoadRequest, report: LoadReport | None) -> LoadReport | None:
    """The report, if it is of the same manifest. A server refuses a second load by itself."""
    return report if report is not None and report.request.manifest_id == request.manifest_id else None
