"""The first load of a store, on a thread of the server: asked for, watched, ended, and made live.

It goes on by itself after a restart, and waits while the disk is full or the folder does not answer. From the moment
it is accepted until it is live, has failed or was aborted, records of the order and overrides wait.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from core.errors import BadInputError, MismatchError, NeardupError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from storage.errors import StorageError, WriteError, as_write_error
from storage.interfaces import ClusterStore
from storage.loading.interfaces import TakesFirstLoad
from storage.loading.kept import KeptLoad, read_kept, remove_all_but_kept, write_kept
from storage.loading.pace import Rate
from storage.loading.run import LoadSettings, run_load
from storage.records import FirstLoad

__all__ = ["FirstLoads"]

log = logging.getLogger(__name__)

_WAIT_FIRST_S = 1.0
_WAIT_MAX_S = 30.0


class _StoppedError(Exception):
    """Somebody ended the thread."""


class FirstLoads:
    """What the calls on first loads do. One load at a time."""

    def __init__(
        self,
        store: ClusterStore,
        settings: Callable[[], LoadSettings] | None,
        swapped: Callable[[], None],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads what was begun before; `resume` goes on with it.

        Args:
            store: Nothing can be loaded unless it is a `TakesFirstLoad`.
            settings: Tells what may be loaded; None: nothing.
            swapped: Called when the store was closed because other content takes its place.
            now_ms: Milliseconds since the epoch.
            clock: Seconds that only grow.

        Raises:
            CorruptedError: What is kept of a load is damaged.
            IncompatibleError: It has another format.
        """
        self._store = store if isinstance(store, TakesFirstLoad) else None
        self._settings = settings
        self._swapped = swapped
        self.now_ms = now_ms
        self.clock = clock
        self._calls = threading.Lock()
        """Held by a call that changes something."""
        self._live = store.first_load()
        # Of a load that is live nothing matters any more, whatever is left of it.
        self._kept = None if self._store is None or self._live else read_kept(self._store.load_folder)
        self._detail = ""
        self._waits = False
        self._rows = 0
        self._rate = Rate()
        self._keeping = threading.Lock()
        """Held while what is kept is changed: calls and the thread do so."""
        self._stopped = threading.Event()
        """Of the thread; the next one gets another."""
        self._thread: threading.Thread | None = None

    def resume(self) -> None:
        """Goes on with what was begun before, and removes what is left of what has ended.

        Raises:
            MismatchError: A record of the order was applied before.
        """
        if self._store is None:
            return
        kept = self._kept
        if kept is None or not kept.is_active:
            try:
                self._remove_written() if kept else self._clear()
            except StorageError as error:  # the store serves without it; the next start tries again
                log.warning("what is left of a first load cannot be removed: %s", error)
            return
        self._store.hold(self._why_held)
        if kept.state is LoadState.READY:
            self._rows = kept.rows
            try:
                self._check_built(kept)
            except StorageError as error:  # `finish` says it to whoever asks
                log.warning("a first load that is ready cannot be opened: %s", error)
        else:
            log.info("the first load of manifest %s goes on", kept.request.manifest_id)
            self._start()

    def stop(self) -> None:
        """Ends the thread after what it writes at present; the load goes on after a restart."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def report(self) -> LoadReport | None:
        """How far the load is; None: none was asked for."""
        live, kept = self._live, self._kept
        if live is not None:
            return LoadReport(
                LoadRequest(live.folder, live.manifest, live.manifest_id, ""),
                LoadState.LIVE,
                rows_done=live.rows,
                rows_total=live.rows,
                images=live.images,
                clusters=live.clusters,
                started_ms=live.started_ms,
                ended_ms=live.ended_ms,
            )
        return None if kept is None else self._report(kept)

    def _report(self, kept: KeptLoad) -> LoadReport:
        loads = kept.state is LoadState.LOADING
        return LoadReport(
            kept.request,
            LoadState.WAITING if loads and self._waits else kept.state,
            self._detail if loads else kept.detail,
            rows_done=self._rows,
            rows_total=kept.rows,
            rows_per_s=self._rate.per_s() if loads and not self._waits else 0.0,
            images=kept.images,
            clusters=kept.clusters,
            started_ms=kept.started_ms,
            ended_ms=kept.ended_ms,
        )

    def load(self, request: LoadRequest) -> LoadReport | None:
        """Begins a load, or goes on with it; one that is done stays so. One that failed or was aborted begins anew.

        Raises:
            MismatchError: Another load is under way or live, or something was applied to the store.
            BadInputError: The store cannot take a first load.
            WriteError: The disk refuses it.
        """
        with self._calls:
            store = self._able()
            if self._live is not None:
                self._check_same(self._live.manifest_id, request.manifest_id, "the store began with")
                return self.report()
            kept = self._kept
            if kept is not None and kept.is_active:
                self._check_same(kept.request.manifest_id, request.manifest_id, "there is a first load of")
                self._change(request=replace(kept.request, log_id=request.log_id))
                if kept.state is LoadState.LOADING and self._thread is None:
                    self._start()  # an abort was refused by the disk
                return self.report()
            self.stop()  # one that has failed still removes what it wrote
            store.hold(self._why_held)
            try:
                self._clear()
                self._keep(KeptLoad(request, self.now_ms()))
            except BaseException:
                store.hold(None)
                raise
            log.info(
                "a first load begins: manifest %s (%s in %s)", request.manifest_id, request.manifest, request.folder
            )
            self._start()
            return self.report()

    def abort(self, manifest_id: str) -> LoadReport | None:
        """Ends a load and removes what it wrote. One that has failed or was aborted stays so.

        Raises:
            MismatchError: It is live, or another one is under way.
            BadInputError: There is none.
            WriteError: The disk refuses it.
        """
        with self._calls:
            if self._of(manifest_id).is_active:
                self.stop()
            if self._of(manifest_id).is_active:  # it may have failed meanwhile
                self._end(LoadState.ABORTED, "")
                log.warning("the first load of manifest %s was aborted", manifest_id)
            return self.report()

    def finish(self, manifest_id: str) -> LoadReport | None:
        """Makes a load live that is ready. The store is closed then, and the server must be started again.

        Raises:
            MismatchError: It is not ready, or it is another one.
            BadInputError: There is none.
            StorageError: The content is damaged, or the disk refuses it: then it stays ready.
        """
        with self._calls:
            store = self._able()
            if self._live is not None and self._live.manifest_id == manifest_id:
                return self.report()
            kept = self._check_built(self._of(manifest_id))
            if kept.state is not LoadState.READY:
                raise MismatchError(
                    f"the first load of manifest {manifest_id} is {self._report(kept).state}, not ready"
                )
            store.swap(kept.request.log_id)
            self._live = _live(kept)
        self._swapped()
        return self.report()

    def did(self, doing: str, rows: int) -> None:
        """See `LoadWatch.did`."""
        if self._stopped.is_set():
            raise _StoppedError
        self._detail, self._rows, self._waits = doing, rows, False
        self._rate.saw(rows, self.clock())

    def counted(self, rows: int, images: int, clusters: int) -> KeptLoad:
        """See `LoadWatch.counted`."""
        return self._change(rows=rows, images=images, clusters=clusters)

    def pause(self, seconds: float) -> None:
        """See `LoadWatch.pause`."""
        if self._stopped.wait(seconds):
            raise _StoppedError

    def _start(self) -> None:
        self._detail, self._waits, self._rows, self._rate = "", False, 0, Rate()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="first-load", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        wait_s = _WAIT_FIRST_S
        while not self._stopped.is_set():
            rows = self._rows
            try:
                self._run_once()
            except _StoppedError:
                return
            except (UnavailableError, WriteError, OSError) as error:
                if not self._waits:
                    log.warning("the first load waits: %s", error)
                self._detail, self._waits = str(error), True
                wait_s = _WAIT_FIRST_S if self._rows > rows else min(2 * wait_s, _WAIT_MAX_S)
                self._stopped.wait(wait_s)
            except Exception as error:  # the edge of the thread: whoever asks must learn why
                log.error("the first load has failed: %s", error, exc_info=not isinstance(error, NeardupError))
                self._fail(str(error) or repr(error))
                return
            else:
                return

    def _run_once(self) -> None:
        assert self._kept is not None
        if self._settings is None:
            raise BadInputError("this server was not told which images may be loaded")
        load = run_load(self._kept, self._able(), self._settings(), self)
        self._change(state=LoadState.READY, ended_ms=load.ended_ms)
        self._rows = load.rows
        log.info("the first load of manifest %s is ready: %d images", load.manifest_id, load.images)

    def _fail(self, why: str) -> None:
        while True:
            try:
                self._end(LoadState.FAILED, why)
            except NeardupError as error:
                log.warning("it cannot be kept that the first load has failed: %s", error)
                if self._stopped.wait(_WAIT_MAX_S):
                    return
            else:
                return

    def _end(self, state: LoadState, detail: str) -> None:
        """The load has ended without a result: it is kept that it has, then what it wrote goes."""
        changes = {"state": state, "detail": detail, "ended_ms": self.now_ms()}
        try:
            self._change(**changes)
        except WriteError:  # full, perhaps of what it wrote; after a kill before the end is kept it loads from row 0
            self._remove_written()
            self._change(**changes)
        self._able().hold(None)
        self._remove_written()

    def _remove_written(self) -> None:
        store = self._able()
        store.remove_leftovers(keep_target=False)
        remove_all_but_kept(store.load_folder)

    def _clear(self) -> None:
        """Removes what is left of an earlier load."""
        store = self._able()
        store.remove_leftovers(keep_target=False)
        with as_write_error(store.load_folder):
            if store.load_folder.exists():
                shutil.rmtree(store.load_folder)

    def _change(self, **changes: Any) -> KeptLoad:
        """Keeps the load with other values."""
        with self._keeping:
            assert self._kept is not None
            return self._keep(replace(self._kept, **changes))

    def _keep(self, kept: KeptLoad) -> KeptLoad:
        write_kept(self._able().load_folder, kept)
        self._kept = kept
        return kept

    def _check_built(self, kept: KeptLoad) -> KeptLoad:
        """One that was ready, and whose content is gone, loads again: a conversion of codes removes other content."""
        if kept.state is not LoadState.READY or self._able().is_built():
            return kept
        log.warning("the content of the first load of manifest %s is gone: it loads again", kept.request.manifest_id)
        kept = self._change(state=LoadState.LOADING, ended_ms=0)
        self._start()
        return kept

    def _able(self) -> TakesFirstLoad:
        if self._store is None:
            raise BadInputError("this kind of store cannot take a first load")
        return self._store

    def _of(self, manifest_id: str) -> KeptLoad:
        if self._live is not None:
            raise MismatchError(f"the first load of manifest {self._live.manifest_id} is live")
        if self._kept is None:
            raise BadInputError("there is no first load")
        self._check_same(self._kept.request.manifest_id, manifest_id, "there is a first load of")
        return self._kept

    @staticmethod
    def _check_same(there: str, asked: str, what: str) -> None:
        if there != asked:
            raise MismatchError(f"{what} manifest {there}, not of {asked}")

    def _why_held(self) -> str:
        found = self.report()
        if found is None or found.state is LoadState.LIVE:
            return "a first load has become live: the server starts again"
        if found.state is LoadState.READY:
            return "a first load is ready, and waits to be made live"
        share = 100 * found.rows_done // found.rows_total if found.rows_total else 0
        waits = f", and it waits: {found.detail}" if found.state is LoadState.WAITING else ""
        return f"a first load is under way: {share} %{waits}"


def _live(kept: KeptLoad) -> FirstLoad:
    request = kept.request
    return FirstLoad(
        request.manifest_id,
        request.folder,
        request.manifest,
        kept.rows,
        kept.images,
        kept.clusters,
        kept.started_ms,
        kept.ended_ms,
    )
