"""Deltas on a thread of the server: asked for, checked, written into the order at credits, watched, ended.

It goes on by itself after a restart, and waits while Kafka, the folder or the disk is away. Everything that must last
is in the store, in the write that applies a row; so nothing is lost or counted twice, whenever the process is killed.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping

from core.errors import BadInputError, MismatchError, NeardupError, UnavailableError
from core.first_loads import LoadRequest, LoadState
from manifests.asked import asked_manifest
from manifests.folder import open_folder
from manifests.manifest import Kind
from storage.interfaces import ClusterStore
from storage.loading.delta_report import DeltaReport, delta_report
from storage.loading.deltas import choose
from storage.records import DeltaProgress
from storage.serving.delta_run import DeltaRun, FeederParts, KeptDeltas

__all__ = ["MAX_LISTED", "DeltaFeeder"]

log = logging.getLogger(__name__)

MAX_LISTED = 1_000
"""Deltas that are listed: those that were asked for last."""

_UNABLE = "this server was not told which images may be loaded, or where the order is"

LOOK_S = 5.0
"""Between two looks at deltas that wait, as for another one or for their folder."""

_STOP_S = 10.0
"""The longest wait for a thread that must end what it does."""


class DeltaFeeder:
    """What the calls on deltas do, and the thread between `start` and `stop`. Thread-safe."""

    def __init__(self, store: ClusterStore, parts: FeederParts) -> None:
        """Prepares the thread."""
        self._store = store
        self._parts = parts
        self._kept = KeptDeltas(store)
        self._calls = threading.Lock()
        """Held by a call that changes something."""
        self._asked = threading.Event()
        """There may be something else to do."""
        self._stopped = threading.Event()
        self._run: DeltaRun | None = None
        """The delta that is under way."""
        self._waits: Mapping[str, str] = {}
        self._previous: dict[str, str | None] = {}
        """Which manifest each one follows: what a manifest says never changes, or its id does."""
        self._states: Mapping[LoadState, int] = {}
        self._rows_left = 0
        self._thread = threading.Thread(target=self._work, name="deltas", daemon=True)
        store.on_apply(lambda state: self._moved())

    def start(self) -> None:
        """Starts the thread, which goes on with what was begun before."""
        if self._parts.can_write:
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread; what is under way goes on after a restart."""
        self._stopped.set()
        self._asked.set()
        if (run := self._run) is not None:
            run.end()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def load(self, request: LoadRequest) -> DeltaReport:
        """Accepts a delta, or goes on with it; one that is done stays so. One that failed or was aborted goes on.

        Raises:
            UnavailableError: The store has not begun with a first load, which deltas follow: ask again later.
            BadInputError: This server writes nothing into the order, or a part of the request is wrong.
            WriteError: The disk refuses it.
        """
        with self._calls:
            if not self._parts.can_write:
                raise BadInputError(_UNABLE)
            known = self._store.delta(request.manifest_id)
            if known is None or known.state is not LoadState.LIVE:
                if self._store.first_load() is None:
                    raise UnavailableError("no first load is live yet, and a delta follows one: ask again after it")
                self._accept(request, known)
            return self._report(request.manifest_id)

    def abort(self, manifest_id: str) -> DeltaReport:
        """Ends a delta; the rows that have entered stay. One that has failed keeps its reason.

        Raises:
            MismatchError: All of its rows have entered.
            BadInputError: It is unknown.
            WriteError: The disk refuses it: it goes on.
        """
        with self._calls:
            known = self._known(manifest_id)
            if known.state is LoadState.LIVE:
                raise MismatchError(f"the delta of manifest {manifest_id} is live: all of its rows have entered")
            ended = {"state": LoadState.ABORTED, "ended_ms": self._parts.now_ms()}
            if self._kept.change(manifest_id, also=LoadState.FAILED, **ended):
                log.warning("the delta of manifest %s was aborted", manifest_id)
                if (run := self._run) is not None and run.manifest_id == manifest_id:
                    run.end()
                    run.over.wait(_STOP_S)
                self._asked.set()
            return self._report(manifest_id)

    def report(self, manifest_id: str) -> DeltaReport | None:
        """How far a delta is; None: nobody has asked for it."""
        known = self._store.delta(manifest_id)
        return None if known is None else self._told(known)

    def reports(self) -> list[DeltaReport]:
        """How far each delta is, by when it was asked for: the last `MAX_LISTED`."""
        return [self._told(each) for each in self._store.deltas()[-MAX_LISTED:]]

    def states(self) -> Mapping[LoadState, int]:
        """How many deltas are in each state, as the thread saw them last. Reads no store."""
        return self._states

    def rows_left(self) -> int:
        """How many rows of those under way or waiting are not applied, as far as is known. Reads no store."""
        return self._rows_left

    def _accept(self, request: LoadRequest, known: DeltaProgress | None) -> None:
        goes_on = known is not None and known.state is LoadState.LOADING
        if known is not None and goes_on and known.request == request:
            return
        began_ms = known.started_ms if known is not None else self._parts.now_ms()
        rows = known.rows if known is not None and goes_on else 0  # what has ended is checked again
        self._store.put_delta(DeltaProgress(request, LoadState.LOADING, rows=rows, started_ms=began_ms))
        log.info("a delta is accepted: manifest %s (%s in %s)", request.manifest_id, request.manifest, request.folder)
        self._asked.set()

    def _known(self, manifest_id: str) -> DeltaProgress:
        known = self._store.delta(manifest_id)
        if known is None:
            raise BadInputError(f"there is no delta of the manifest {manifest_id}")
        return known

    def _report(self, manifest_id: str) -> DeltaReport:
        return self._told(self._known(manifest_id))

    def _told(self, progress: DeltaProgress) -> DeltaReport:
        manifest_id, run = progress.request.manifest_id, self._run
        if run is not None and run.manifest_id == manifest_id:
            return delta_report(progress, run.does, run.waits_for, run.rate.per_s())
        return delta_report(progress, "", self._waits.get(manifest_id) if self._parts.can_write else _UNABLE)

    def _moved(self) -> None:
        if (run := self._run) is not None:
            run.changed()

    def _work(self) -> None:
        while not self._stopped.is_set():
            self._asked.clear()
            try:
                chosen = self._choose()
                if chosen is not None:
                    self._bring_to_its_end(chosen)
                    continue
            except Exception as error:  # the edge of the thread, which must outlive whatever happens to one delta
                known = isinstance(error, NeardupError)
                log.warning("deltas cannot be looked at: %s", error, exc_info=None if known else error)
                self._asked.wait(LOOK_S)
            else:
                self._asked.wait(LOOK_S if self._waits else None)

    def _choose(self) -> DeltaProgress | None:
        known, began = self._store.deltas(), self._store.first_load()
        choice = choose(known, began.manifest_id if began is not None else "", self._follows)
        self._waits = choice.waits
        self._count()
        return choice.delta

    def _count(self) -> None:
        try:
            told = [self._told(each).load for each in self._store.deltas()]
        except NeardupError:  # whoever brings a delta on meets it too, and waits: the figures stay as they were
            return
        self._states = Counter(each.state for each in told)
        left = (each for each in told if each.state in (LoadState.LOADING, LoadState.WAITING))
        self._rows_left = sum(max(0, each.rows_total - each.rows_done) for each in left)

    def _follows(self, progress: DeltaProgress) -> str | None:
        request = progress.request
        if request.manifest_id not in self._previous:
            manifest = asked_manifest(open_folder(request.folder), request.manifest, Kind.DELTA, request.manifest_id)
            self._previous[request.manifest_id] = manifest.previous
        return self._previous[request.manifest_id]

    def _bring_to_its_end(self, progress: DeltaProgress) -> None:
        run = DeltaRun(self._store, self._kept, self._parts, progress.request.manifest_id, self._count)
        self._run = run
        try:
            if not self._stopped.is_set():
                log.info("the delta of manifest %s goes on after row %d", run.manifest_id, progress.applied)
                run.until_it_ends()
        finally:
            self._run = None
            run.over.set()
