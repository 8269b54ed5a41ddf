"""The first load of a service: storage and search load by themselves, and are asked here for what comes next. Pure.

    both load      storage first: from then on the order waits
    both ready     storage swaps, which decides it, then search follows
    one fails      the other is ended, so that nothing of the load stays, and it may begin again

Each look does at most what comes next and waits for nothing. So anybody may look, also after a crash, or twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from core.errors import MismatchError
from core.first_loads import LoadReport, LoadRequest, LoadState

__all__ = ["FirstLoad", "LoadingSearch", "LoadingStorage", "abort", "begin", "follow", "look"]

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


class LoadingStorage(Protocol):
    """What is asked of the storage server. Its errors are those of its client."""

    def load(self, request: LoadRequest) -> LoadReport:
        """Begins, or goes on."""
        ...

    def load_status(self) -> LoadReport | None:
        """How far the load is that was asked for last; None: none was."""
        ...

    def abort_load(self, manifest_id: str) -> LoadReport:
        """Ends it."""
        ...

    def finish_load(self, manifest_id: str) -> LoadReport:
        """Makes it live."""
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
        """Makes it live, once storage is."""
        ...


@dataclass(frozen=True, slots=True)
class FirstLoad:
    """How far a load is in both servers."""

    storage: LoadReport | None
    search: LoadReport | None

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
    stored = storage.load(request)
    try:
        indexed = search.load(request)
    except MismatchError:
        if stored.state is not LoadState.LIVE:
            storage.abort_load(request.manifest_id)
        raise
    return FirstLoad(stored, indexed)


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
        indexed = search.load(request)
    if stored.state is LoadState.LIVE:
        if indexed.state is LoadState.READY:
            indexed = search.adopt_load(request.manifest_id, request.log_id, stored.rows_total)
    elif stored.state in _ENDED:
        if indexed.state not in _ENDED:
            indexed = search.abort_load(request.manifest_id)
    elif indexed.state in _ENDED:
        stored = storage.abort_load(request.manifest_id)
    elif stored.state is indexed.state is LoadState.READY:
        stored = storage.finish_load(request.manifest_id)
    return FirstLoad(stored, indexed)


def follow(storage: LoadingStorage, search: LoadingSearch, log_id: str) -> FirstLoad:
    """Lets search follow a load that is live in storage, as before a start. Nothing else is begun or ended.

    Args:
        storage: The storage server.
        search: The search server.
        log_id: Kafka's topic id of `joined`.
    """
    stored, indexed = storage.load_status(), search.load_status()
    if stored is not None and indexed is not None and stored.state is LoadState.LIVE:
        same = stored.request.manifest_id == indexed.request.manifest_id
        if same and indexed.state is LoadState.READY:
            indexed = search.adopt_load(stored.request.manifest_id, log_id, stored.rows_total)
    return FirstLoad(stored, indexed)


def abort(manifest_id: str, storage: LoadingStorage, search: LoadingSearch) -> FirstLoad:
    """Ends a load in both servers. One that has ended stays as it is.

    Raises:
        MismatchError: It is live, or there is no such load.
        UnavailableError: A server does not answer: call again.
    """
    stored, indexed = storage.load_status(), search.load_status()
    found = [each for each in (stored, indexed) if each is not None and each.request.manifest_id == manifest_id]
    if not found:
        raise MismatchError(f"no load of the manifest {manifest_id} was asked for")
    if stored in found:  # it decides: if it is live, so is the load
        stored = storage.abort_load(manifest_id)
    if indexed in found:
        indexed = search.abort_load(manifest_id)
    return FirstLoad(stored, indexed)


def _of(request: LoadRequest, report: LoadReport | None) -> LoadReport | None:
    """The report, if it is of the same manifest. A server refuses a second load by itself."""
    return report if report is not None and report.request.manifest_id == request.manifest_id else None
