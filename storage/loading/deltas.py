"""The rows of a delta manifest go into the order: which delta may go, its checks, and its rows at credits. Pure.

    which    the first that was asked for and follows what is live; one at a time
    checks   the whole manifest is read before the first row is written (`storage.loading.delta_check`)
    rows     from the last one on that was applied, `LIMIT` ahead of it at most, fewer while live images are late

Whoever was interrupted begins again after the last row that was applied. Rows that were written before are written
again, and the store counts them once. Rows that are written and not applied are remembered, and written again before
any later one if a write has failed, or if the order goes on in another topic: nobody knows which of them are there.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from core.errors import BadInputError, MismatchError, UnavailableError
from core.first_loads import LoadState
from core.replay_credits import ReplayCredits
from manifests.asked import asked_manifest
from manifests.folder import Folder, open_folder
from manifests.manifest import Kind, Manifest
from manifests.rows import read_rows
from storage.loading.delta_check import CheckTask
from storage.loading.delta_rows import MemberRecord, member_records
from storage.loading.pace import Pace
from storage.loading.run import LoadSettings
from storage.records import DeltaProgress

__all__ = ["LIMIT", "Choice", "DeltaWatch", "Seen", "choose", "run_delta", "write_rows"]

LIMIT = 64
"""The most rows that are written and not applied: a live image waits for one batch of them at most."""

AT_ONCE = 256
"""Rows that are read at once."""

STILL_S = 30.0
"""Rows in the order that nobody decides for so long are told of: the job may be down."""

_WAIT_FIRST_S, _WAIT_MAX_S = 1.0, 30.0

_LOOK_S = 1.0
"""The longest time between two looks at what is applied; each write of the store wakes too."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the store says at one moment."""

    applied: int
    """The last row that was applied; -1: none."""
    log_id: str
    """The order that it follows."""
    live_delay_ms: int
    """How late live images are; 0: there are none."""


class DeltaWatch(Protocol):
    """The store, the order and the clock of a delta. Whatever a method raises beside its own errors ends the delta."""

    def doing(self, what: str) -> None:
        """This is done at present."""
        ...

    def waits(self, why: str) -> None:
        """Nothing can be done at present, for this reason."""
        ...

    def counted(self, rows: int) -> DeltaProgress:
        """The manifest was checked and has so many rows: that is kept, durably. Without rows, it is live at once."""
        ...

    def look(self) -> Seen:
        """How far the order is."""
        ...

    def send(self, records: Sequence[MemberRecord]) -> None:
        """Writes records into the order, and waits until they are acknowledged.

        Raises:
            UnavailableError: Nobody knows which of them are there.
        """
        ...

    def pause(self, seconds: float) -> None:
        """Waits so long, or until the store has changed."""
        ...

    def clock(self) -> float:
        """Seconds that only grow."""
        ...

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """Which delta goes on."""

    delta: DeltaProgress | None
    waits: Mapping[str, str]
    """Why others do not, by the ids of their manifests."""


def choose(deltas: Iterable[DeltaProgress], first_load: str, previous: Callable[[DeltaProgress], str | None]) -> Choice:
    """The first delta that may go.

    Args:
        deltas: All that are known, in the order in which they were asked for.
        first_load: The id of the manifest that the store began with.
        previous: Reads which manifest a delta follows; raises as `asked_manifest`. A folder that does not answer is
            asked once: each time may take a minute, while deltas of other folders could go.
    """
    known = list(deltas)
    live = {first_load} | {each.request.manifest_id for each in known if each.state is LoadState.LIVE}
    chosen: DeltaProgress | None = None
    waits: dict[str, str] = {}
    away: dict[str, str] = {}
    for each in known:
        if each.state is not LoadState.LOADING:
            continue
        manifest_id = each.request.manifest_id
        if not each.request.folder:
            waits[manifest_id] = "its rows are known from the order alone: load it again"
        elif chosen is not None:
            waits[manifest_id] = f"waits until the manifest {chosen.request.manifest_id} is done"
        elif (why := _why_not(each, live, previous, away)) is None:
            chosen = each
        else:
            waits[manifest_id] = why
    return Choice(chosen, waits)


def _why_not(
    delta: DeltaProgress, live: set[str], previous: Callable[[DeltaProgress], str | None], away: dict[str, str]
) -> str | None:
    """Why a delta may not go; None: it may. `away` has folders that do not answer, and gets others."""
    folder = delta.request.folder
    if folder in away:
        return away[folder]
    try:
        before = previous(delta)
    except UnavailableError as error:
        away[folder] = str(error)
        return away[folder]
    except (BadInputError, MismatchError):  # it fails where it is read again
        return None
    return None if before in live else f"waits for the manifest {before}"


def run_delta(
    progress: DeltaProgress,
    spool: Path,
    settings: LoadSettings,
    watch: DeltaWatch,
    check: Callable[[CheckTask, Callable[[str], None]], None],
) -> None:
    """Brings a delta to its end, from wherever it was.

    Args:
        progress: What the store knows of it.
        spool: A folder for what is needed meanwhile; what lies there is removed.
        settings: What its images must have been made for.
        watch: The store and the order.
        check: As `storage.loading.delta_check.check`.

    Raises:
        BadInputError: The manifest or a file is wrong; the message names file and row.
        MismatchError: The manifest or a file is another one, or was made for other settings.
        UnavailableError: The folder does not answer, or a disk is full. Run it again later.
        OSError: The same.
    """
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir(parents=True)
    try:
        request = progress.request
        folder = open_folder(request.folder)
        manifest = asked_manifest(folder, request.manifest, Kind.DELTA, request.manifest_id)
        if not progress.rows:  # it was not checked yet
            watch.doing("checks")
            follows = manifest.previous or ""
            check(CheckTask(request, settings.signal, settings.checks, spool, follows), watch.doing)
            progress = watch.counted(manifest.rows)
        watch.doing("")
        if progress.state is not LoadState.LIVE:
            with closing(_records(folder, manifest, progress, spool, settings)) as records:
                write_rows(records, watch, Pace(settings.rows_per_s))
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def _records(
    folder: Folder, manifest: Manifest, progress: DeltaProgress, spool: Path, settings: LoadSettings
) -> Generator[MemberRecord, None, None]:
    """The rows after the last one that was applied."""
    rows = read_rows(folder, manifest, settings.signal, spool, AT_ONCE, progress.applied + 1, terms=False)
    with closing(rows):
        for numbered in rows:
            yield from member_records(numbered, manifest.id, progress.started_ms)


def write_rows(records: Iterator[MemberRecord], watch: DeltaWatch, pace: Pace, limit: int = LIMIT) -> None:
    """Writes records in their order until all of them are applied. Raises what reading them raises.

    Args:
        records: Those after the last row that was applied.
        watch: The store and the order.
        pace: Bounds how many rows go in a second.
        limit: The most that are written and not applied.
    """
    window = _Window(limit)
    after = next(records, None)
    resumes_s, wait_s = watch.clock(), _WAIT_FIRST_S
    while after is not None or window.ahead:
        seen = watch.look()
        window.saw(seen, watch.clock())
        if (left_s := resumes_s - watch.clock()) > 0:
            watch.pause(left_s)
            continue
        room = 0 if after is None else window.room(after.row, seen, watch.now_ms())
        fresh = list(islice(chain((after,), records), room)) if after is not None else []
        again = window.again()
        if not fresh and not again:
            if window.still_s(watch.clock()) >= STILL_S:
                waiting = len(window.ahead)
                watch.waits(f"{waiting} rows are in the order, and nobody decides them: does the job run?")
            else:
                watch.doing("")
            watch.pause(_LOOK_S)
            continue
        if fresh:
            after = next(records, None)
        window.admitted(fresh)
        try:
            watch.send([*again, *fresh])
        except UnavailableError as error:
            window.unsure()
            watch.waits(str(error))
            resumes_s, wait_s = watch.clock() + wait_s, min(2 * wait_s, _WAIT_MAX_S)
        else:
            watch.doing("")
            resumes_s, wait_s = watch.clock() + pace.pause_s(len(fresh), watch.clock()), _WAIT_FIRST_S


class _Window:
    """The rows that are written and not applied yet."""

    def __init__(self, limit: int) -> None:
        self.ahead: deque[MemberRecord] = deque()
        self._credits = ReplayCredits(limit, gives_way=True)
        self._unsure = False
        self._log_id: str | None = None
        self._moved_s = 0.0

    def saw(self, seen: Seen, now_s: float) -> None:
        """Forgets what is applied."""
        if self._log_id not in (None, seen.log_id):
            self._unsure = True
        self._log_id = seen.log_id
        before = len(self.ahead)
        while self.ahead and self.ahead[0].row <= seen.applied:
            self.ahead.popleft()
        if len(self.ahead) < before or not self.ahead:
            self._moved_s = now_s

    def room(self, first: int, seen: Seen, now_ms: int) -> int:
        """How many more may be written."""
        return self._credits.room(seen.applied, first, seen.live_delay_ms, now_ms)

    def admitted(self, records: Sequence[MemberRecord]) -> None:
        """These are written now."""
        self._credits.admitted(each.row for each in records)
        self.ahead.extend(records)

    def unsure(self) -> None:
        """Nobody knows which of them are there."""
        self._unsure = True

    def again(self) -> Sequence[MemberRecord]:
        """Those that must be written again, before any other; asked once."""
        unsure, self._unsure = self._unsure, False
        return tuple(self.ahead) if unsure else ()

    def still_s(self, now_s: float) -> float:
        """For how long nothing of them was applied."""
        return now_s - self._moved_s
