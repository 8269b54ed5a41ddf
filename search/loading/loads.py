"""The first load of a server: begun, resumed, aborted and adopted, one at a time.

    loading <-> waiting     a process loads; what is in the way is waited out
       |           |
       v           v
     ready       failed     whole and verified; or nothing is left of it
       |
       v
     live                   its generation serves: it was adopted, and the server has started again

A load whose generation another one has replaced since, by a build or a restore, is forgotten.

The live index is not touched before the load is adopted. `aborted` follows each state but `live`.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from core.apart import WorkStopped
from core.errors import BadInputError, MismatchError, NeardupError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from core.types import LogPosition
from search.index.errors import IndexDamagedError
from search.index.folder import Identity
from search.index.generations import LOAD_FILE, IndexGenerations
from search.index.manifest import read_manifest, write_manifest
from search.loading.kept_load import KeptLoad, build_named, read_kept, write_kept
from search.loading.load_process import load_apart
from search.loading.load_task import SPOOL, LoadTask, Progress

__all__ = ["Loads"]

log = logging.getLogger(__name__)

ADOPTED = "adopted: the server starts again"
"""The detail of a load that serves from the next start on; until then it is `ready`."""

RETRY_S = 10.0
"""What is in the way is tried again after so many seconds."""


class Loads:
    """The load that was asked for last. Thread-safe; a load that was under way goes on at once."""

    def __init__(
        self,
        generations: IndexGenerations,
        opened: str,
        identity: Identity,
        task: Callable[[LoadRequest], LoadTask],
        position: Callable[[], LogPosition],
        retry_s: float = RETRY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Reads what is known of it.

        Args:
            generations: The folder of the index.
            opened: The generation that this server has open.
            identity: What the index is made for.
            task: What a load of a request needs to know.
            position: Of the live index.
            retry_s: See `RETRY_S`.
            clock: Gives seconds since the epoch.

        Raises:
            IndexDamagedError: What is known of it cannot be read.
            MismatchError: A later release wrote it.
        """
        self._generations = generations
        self._opened = opened
        self._identity = identity
        self._task = task
        self._position = position
        self._retry_s = retry_s
        self._clock = clock
        self._file = generations.path / LOAD_FILE
        self._calls = threading.Lock()
        """Held through a whole call, also while it waits for the thread."""
        self._changes = threading.Lock()
        """Held while what is known changes."""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._kept = read_kept(self._file)
        if self._kept is not None:
            self._take_up(self._kept)

    @property
    def report(self) -> LoadReport | None:
        """How far it is; None: none was asked for, or another index has replaced it."""
        kept = self._kept
        if kept is None:
            return None
        if kept.report.state is LoadState.LIVE and kept.generation != self._opened:
            return replace(kept.report, state=LoadState.READY, detail=ADOPTED)
        return kept.report

    @property
    def live(self) -> str:
        """The id of the manifest that the open index began with; "" for none."""
        report = self.report
        return report.request.manifest_id if report is not None and report.state is LoadState.LIVE else ""

    def begin(self, request: LoadRequest) -> LoadReport:
        """Begins a load in the background. One that is under way goes on, and one that is live stays so.

        Asked before another log, a load that is under way takes that log's id: its rows do not depend on it.

        Raises:
            MismatchError: Another load is under way or live, or the live index goes on from a load already.
            UnavailableError: It could not be noted.
        """
        with self._calls:
            kept = self._kept
            if kept is not None and (kept.is_under_way or kept.report.state is LoadState.LIVE):
                if build_named(kept.report.request) != build_named(request):
                    raise MismatchError(
                        f"the load of {build_named(kept.report.request)} is {kept.report.state}, so that of "
                        f"{build_named(request)} cannot begin"
                    )
                if kept.is_under_way and kept.report.request.log_id != request.log_id:
                    self._take_log(request.log_id)
                return self._told()
            self._check_not_there(request.log_id)
            self._stop()  # a load that has just failed may not have removed all of it yet
            self._drop()
            self._note(KeptLoad(LoadReport(request, LoadState.LOADING, started_ms=self._now_ms())))
            report = self._known().report
            self._start()
            return report

    def abort(self, manifest_id: str) -> LoadReport:
        """Ends a load and removes what it built.

        Raises:
            BadInputError: No such load was asked for.
            MismatchError: It is live.
            UnavailableError: It could not be noted.
        """
        with self._calls:
            kept = self._named(manifest_id)
            if kept.report.state is LoadState.LIVE:
                raise MismatchError(f"the load of {build_named(kept.report.request)} is live and cannot be aborted")
            self._stop()
            report = self._known().report
            if self._known().is_under_way:
                ended = replace(report, state=LoadState.ABORTED, detail="", rows_per_s=0.0, ended_ms=self._now_ms())
                try:
                    self._note_or_drop(KeptLoad(ended))
                except OSError as error:
                    if report.state is LoadState.READY:  # what the next start would find, too
                        self._kept = KeptLoad(replace(ended, state=LoadState.FAILED, detail="its index was removed"))
                    else:
                        self._start()
                    raise UnavailableError(f"cannot write {self._file}: {error}", 1.0) from error
            self._drop()
            return self._told()

    def adopt(self, manifest_id: str, log_id: str, base: int) -> LoadReport:
        """Makes the generation of a load that is ready the one that serves, from the next start on. A repeated call
        does nothing. What the live index has applied is left behind: the caller knows that nothing is lost.

        Args:
            manifest_id: The manifest.
            log_id: The log that follows its rows, as storage has it.
            base: The position of that log's offset 0.

        Raises:
            BadInputError: No such load was asked for.
            MismatchError: It is not ready, or another base follows it (the message has both), or the live index goes
                on from a load already.
            IndexDamagedError: What was built is damaged.
            UnavailableError: It could not be written.
        """
        with self._calls:
            kept = self._named(manifest_id)
            report, request = kept.report, kept.report.request
            if report.state is LoadState.LIVE:
                return self._told()
            if report.state is not LoadState.READY:
                raise MismatchError(f"the load of {build_named(request)} is {report.state}, and must be ready first")
            if base != report.rows_total:
                raise MismatchError(
                    f"the load has {report.rows_total} rows, but the log {log_id}, before which it is to be adopted, "
                    f"begins at {base}: abort the load, and run `neardup index build --from storage`"
                )
            self._check_not_there(log_id)
            try:
                self._switch(kept.generation, log_id)
            except OSError as error:
                raise UnavailableError(f"cannot adopt the load: {error}", 1.0) from error
            self._note(
                replace(kept, report=replace(report, request=replace(request, log_id=log_id), state=LoadState.LIVE))
            )
            log.warning("generation %s, of %s, serves from now on", kept.generation, build_named(request))
            return self._told()

    def close(self) -> None:
        """Ends the process that loads, at once; the next start goes on."""
        with self._calls:
            self._stop()

    def _switch(self, generation: str, log_id: str) -> None:
        """Makes a finished generation the one that serves, before a log; a switch that was cut off is repeated.

        Raises:
            OSError: It could not be written.
        """
        built = self._generations.load() or self._generations.path / generation
        manifest = read_manifest(built)
        if manifest is None:
            raise IndexDamagedError(f"{built} has no manifest: abort the load, and ask for it again")
        if manifest.position.log_id != log_id:
            write_manifest(built, replace(manifest, position=replace(manifest.position, log_id=log_id)), sync=True)
        self._generations.adopt(built, self._identity)

    def _check_not_there(self, log_id: str) -> None:
        """Keeps an index that has applied what follows a load: such a log begins after the rows."""
        position = self._position()
        if position.log_id == log_id and position.base > 0:
            raise MismatchError(
                f"the live index follows the log {log_id} already, which begins at {position.base}, up to the position "
                f"{position.offset}: a load before that log would lose what follows"
            )

    def _take_up(self, kept: KeptLoad) -> None:
        """Goes on after a start, from where the last process was ended."""
        match kept.report.state:
            case LoadState.LOADING | LoadState.WAITING:
                self._start()
            case LoadState.READY:
                self._take_up_ready(kept)
            case LoadState.FAILED | LoadState.ABORTED:
                self._drop()
            case LoadState.LIVE:
                current = self._generations.current()
                if kept.generation != self._opened and (current is None or current.name != kept.generation):
                    self._kept = None

    def _take_up_ready(self, kept: KeptLoad) -> None:
        """Finishes an adoption that was cut off; sees whether the finished index was lost."""
        current = self._generations.current()
        try:
            if current is not None and current.name == kept.generation:
                found = replace(kept.report, state=LoadState.LIVE)
            elif self._generations.load() is not None:
                return
            elif (built := self._generations.path / kept.generation).is_dir():  # it got its name, and no more
                self._generations.adopt(built, self._identity)
                found = replace(kept.report, state=LoadState.LIVE)
            else:
                found = replace(kept.report, state=LoadState.FAILED, detail=f"its index, {kept.generation}, is missing")
            self._kept = replace(kept, report=found)
            write_kept(self._file, self._kept)
        except OSError as error:  # the next start sees the same
            log.warning("cannot take up the first load: %s", error)

    def _start(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stopped,), name="first-load", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        thread, self._thread = self._thread, None
        self._stopped.set()
        if thread is not None:
            thread.join()

    def _run(self, stopped: threading.Event) -> None:
        """Tries until the load is ready or failed, or is stopped."""
        request = self._known().report.request
        while not stopped.is_set():
            try:
                images = load_apart(self._task(request), _Rated(self._progress), stopped)
                generation = self._generations.load()
                assert generation is not None
                self._write(self._ended(LoadState.READY, generation.stem, images=images, detail=""))
                log.warning("the load of %s is ready", build_named(request))
                return
            except WorkStopped:
                return
            except (UnavailableError, OSError) as error:
                self._wait(str(error), stopped)
            except Exception as error:  # the edge of the thread: whoever asks must learn why
                if not isinstance(error, NeardupError):
                    log.exception("the first load failed on what nobody foresaw")
                self._fail(str(error) or repr(error), stopped)
                return

    def _wait(self, why: str, stopped: threading.Event) -> None:
        log.warning("the first load waits for %.0f s: %s", self._retry_s, why)
        self._change(state=LoadState.WAITING, detail=why, rows_per_s=0.0)
        stopped.wait(self._retry_s)

    def _fail(self, why: str, stopped: threading.Event) -> None:
        log.error("the first load failed: %s", why)
        while not stopped.is_set():
            try:
                self._note_or_drop(self._ended(LoadState.FAILED, detail=why))
                self._drop()
                return
            except OSError as error:  # the next start would load again
                self._wait(str(error), stopped)

    def _progress(self, progress: Progress, rows_per_s: float) -> None:
        detail = "verifying" if progress.verifying else ""
        self._change(
            state=LoadState.LOADING,
            detail=detail,
            rows_done=progress.rows_done,
            rows_total=progress.rows_total,
            rows_per_s=rows_per_s,
        )

    def _ended(self, state: LoadState, generation: str = "", **fields: Any) -> KeptLoad:
        """What is known once the work has ended."""
        report = replace(self._known().report, state=state, rows_per_s=0.0, ended_ms=self._now_ms(), **fields)
        return KeptLoad(report, generation)

    def _note_or_drop(self, kept: KeptLoad) -> None:
        """Notes that nothing comes of the load; if the disk is full, first removes what may have filled it.

        Raises:
            OSError: It could not be written.
        """
        try:
            self._write(kept)
        except OSError:
            self._drop()
            self._write(kept)

    def _change(self, **fields: Any) -> None:
        """Changes what need not be known at the next start."""
        with self._changes:
            self._kept = replace(self._known(), report=replace(self._known().report, **fields))

    def _note(self, kept: KeptLoad) -> None:
        try:
            self._generations.path.mkdir(parents=True, exist_ok=True)
            self._write(kept)
        except OSError as error:
            raise UnavailableError(f"cannot write {self._file}: {error}", 1.0) from error

    def _write(self, kept: KeptLoad) -> None:
        with self._changes:
            write_kept(self._file, kept)
            self._kept = kept

    def _take_log(self, log_id: str) -> None:
        """Notes the log of a load that is under way, whose thread may change what is known meanwhile.

        Raises:
            UnavailableError: It could not be noted.
        """
        try:
            with self._changes:
                known = self._known()
                kept = replace(
                    known, report=replace(known.report, request=replace(known.report.request, log_id=log_id))
                )
                write_kept(self._file, kept)
                self._kept = kept
        except OSError as error:
            raise UnavailableError(f"cannot write {self._file}: {error}", 1.0) from error

    def _told(self) -> LoadReport:
        report = self.report
        assert report is not None
        return report

    def _known(self) -> KeptLoad:
        assert self._kept is not None
        return self._kept

    def _named(self, manifest_id: str) -> KeptLoad:
        kept = self._kept
        if kept is None or kept.report.request.manifest_id != manifest_id:
            known = "none was asked for" if kept is None else f"the last is of {kept.report.request.manifest_id}"
            raise BadInputError(f"there is no load of the manifest {manifest_id[:64]}: {known}")
        return kept

    def _drop(self) -> None:
        self._generations.drop_load()
        shutil.rmtree(self._generations.path / SPOOL, ignore_errors=True)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


class _Rated:
    """Tells the progress of one process with its rate."""

    def __init__(self, tell: Callable[[Progress, float], None]) -> None:
        self._tell = tell
        self._first: tuple[float, int] | None = None

    def __call__(self, progress: Progress) -> None:
        now_s = time.monotonic()
        began_s, rows = self._first = self._first or (now_s, progress.rows_done)
        self._tell(progress, (progress.rows_done - rows) / max(now_s - began_s, 1e-9))
