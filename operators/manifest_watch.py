"""Which manifest of a watched folder is asked for next, and how each one ended. Pure, but for calls to the servers.

    snapshot   both servers load it (`operators.first_load`), one at a time, in the order of the names
    delta      storage takes it, once no snapshot is left; which delta comes before which is for storage to say

A look asks for what comes next and waits for nothing, so anybody may look, also after a crash, or twice. A load that
has failed or was aborted is not begun again: people do that. Of first loads, the servers remember the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from core.errors import BadInputError, DeadlineError, MismatchError, NeardupError, RefusedError
from core.first_loads import LoadReport, LoadRequest, LoadState
from manifests.manifest import Kind, Manifest
from operators.first_load import LoadingSearch, LoadingStorage, begin_once, look

__all__ = ["End", "Ended", "ManifestWatch", "Watched"]

DELTAS_AT_ONCE = 32
"""How many deltas one look asks for."""

_ENDED = (LoadState.LIVE, LoadState.FAILED, LoadState.ABORTED)


class End(StrEnum):
    """How the work on a file of the folder ended."""

    LIVE = "live"
    FAILED = "failed"
    ABORTED = "aborted"
    REFUSED = "refused"
    """A server does not take it, such as a snapshot once a record was applied."""
    UNREADABLE = "unreadable"
    """It is no manifest, or it cannot be read."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A manifest whose work has not ended."""

    name: str
    """Of its file, in the folder of manifests."""
    manifest_id: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Ended:
    """A file whose work has ended, and why it ended so; empty: well."""

    name: str
    end: End
    why: str = ""


class ManifestWatch:
    """The manifests of one folder whose work has not ended."""

    def __init__(
        self,
        folder: str,
        log_id: str,
        storage: LoadingStorage,
        search: LoadingSearch,
        known: Iterable[Watched] = (),
    ) -> None:
        """Asks nobody yet.

        Args:
            folder: A path or a URI, as the servers know it.
            log_id: Kafka's topic id of `joined`.
            storage: The storage server.
            search: The search server.
            known: Those of an earlier life.
        """
        self._folder, self._log_id, self._storage, self._search = folder, log_id, storage, search
        self._known = {each.name: each for each in known}
        self._begun: set[str] = set()
        """The ids of the snapshots that this life has asked for: before this log, then."""
        self._waiting: dict[str, str] = {}
        self._away: str | None = None
        """Why storage could not be asked for anything at the last look; None: it could."""

    @property
    def known(self) -> list[Watched]:
        """Those whose work has not ended."""
        return list(self._known.values())

    @property
    def waiting(self) -> Mapping[str, str]:
        """Of these, by name, those that did not go on when they were asked for last, and why."""
        return self._waiting if self._away is None else dict.fromkeys(self._known, self._away)

    def add(self, name: str, content: bytes | None, problem: str = "") -> Ended | None:
        """Takes a file of the folder.

        Args:
            name: Its name.
            content: Its bytes; None: it cannot be read.
            problem: Why.

        Returns:
            How its work ended, where there is none to do.
        """
        if content is None:
            return Ended(name, End.UNREADABLE, problem)
        try:
            manifest = Manifest.decoded(content)
        except BadInputError as error:
            return Ended(name, End.UNREADABLE, str(error))
        if manifest.kind is Kind.SNAPSHOT and manifest.rows == 0:
            return Ended(name, End.REFUSED, "it has no rows: there is nothing to begin with")
        self._known[name] = Watched(name, manifest.id, manifest.kind)
        return None

    def look(self) -> list[Ended]:
        """Asks the servers for what comes next; returns what has ended by now."""
        if not self._known:
            return []
        try:
            last = self._storage.load_status()
        except NeardupError as error:
            self._away = str(error)
            return []
        self._away = None
        found = []
        for each in self._turn():
            self._waiting.pop(each.name, None)
            try:
                end = self._step(each, last)
            except NeardupError as error:
                self._waiting[each.name] = str(error)
                if isinstance(error, DeadlineError):
                    break  # the others would wait as long
            else:
                found += [] if end is None else [end]
        for ended in found:
            del self._known[ended.name]
        return found

    def _turn(self) -> list[Watched]:
        """Those that are asked for in this look."""
        snapshots = [each for each in self._known.values() if each.kind is Kind.SNAPSHOT]
        if snapshots:
            return [min(snapshots, key=lambda each: each.name)]
        turn = list(self._known.values())[:DELTAS_AT_ONCE]
        for each in turn:  # the others come first in the next look
            self._known[each.name] = self._known.pop(each.name)
        return turn

    def _step(self, each: Watched, last: LoadReport | None) -> Ended | None:
        log_id = self._log_id if each.kind is Kind.SNAPSHOT else ""
        request = LoadRequest(self._folder, each.name, each.manifest_id, log_id)
        try:
            if request.is_delta:
                return self._delta(request)
            known = last if last is not None and last.request.manifest_id == each.manifest_id else None
            return self._snapshot(request, known)
        except (MismatchError, RefusedError) as error:
            return self._refused(request, error)

    def _snapshot(self, request: LoadRequest, known: LoadReport | None) -> Ended | None:
        if known is not None and request.manifest_id in self._begun:
            found = look(request, self._storage, self._search)
        else:
            found = begin_once(request, self._storage, self._search)
            self._begun.add(request.manifest_id)
        return self._told(request.manifest, found.state, found.reports)

    def _delta(self, request: LoadRequest) -> Ended | None:
        """What storage knows goes on by itself. To ask again would undo an abort that came since it was looked at."""
        known = self._storage.load_status(request.manifest_id)
        if known is not None and (known.state in _ENDED or known.request.folder):
            report = known
        else:  # it was never asked for, or the store was built again and lacks the folder
            report = self._storage.load(request)
        return self._told(request.manifest, report.state, [report])

    def _told(self, name: str, state: LoadState | None, reports: Iterable[LoadReport]) -> Ended | None:
        """What a state means for a manifest."""
        if state is not None and state in _ENDED:
            return Ended(name, End(state), "; ".join(each.detail for each in reports if each.state is LoadState.FAILED))
        waits = [each.detail for each in reports if each.state is LoadState.WAITING]
        if waits:
            self._waiting[name] = "; ".join(waits)
        return None

    def _refused(self, request: LoadRequest, error: NeardupError) -> Ended | None:
        """A refusal is the end, unless another load is under way: that one will end."""
        for report in (self._storage.load_status(), self._search.load_status()):
            other = report is not None and report.request.manifest_id != request.manifest_id
            if report is not None and other and report.state not in _ENDED:
                self._waiting[request.manifest] = str(error)
                return None
        return Ended(request.manifest, End.REFUSED, str(error))
