"""Loads the manifests of a folder as they appear: files in, calls to the two servers out. No image passes through here.

What to ask for is decided by `operators.manifest_watch`; this class connects it to Flink. Nothing raises: what cannot
go on waits, and a timer asks again. The log tells once that a manifest waits, and how each one ended. A folder that
does not answer counts as one manifest that waits, since nobody knows what lies there.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, TimerService
from pyflink.datastream.state import ValueStateDescriptor

from manifests.manifest import Kind
from operators.first_load import LoadingSearch, LoadingStorage
from operators.manifest_watch import End, Ended, ManifestWatch, Watched
from operators.metrics import WatchMetrics
from operators.micro_batch import SWITCH_INTERVAL_S
from operators.sealed_state import StateDamagedError, seal, unseal
from operators.state_bytes import StateBytes
from operators.step import ServerAddress
from search.serving.admission import Caller
from search.serving.client import SearchClient
from storage.serving.client import StorageClient

__all__ = ["AWAY_MS", "LOOK_MS", "WatchFunction"]

log = logging.getLogger(__name__)

LOOK_MS = 1_000
"""Between two looks at what is loaded."""

AWAY_MS = 5_000
"""The same, while a manifest waits."""

_KEPT = "the list of manifests"
_HEARD = "what is known of the folder of manifests"


class _Storage(LoadingStorage, Protocol):
    def close(self) -> None: ...


class _Search(LoadingSearch, Protocol):
    def close(self) -> None: ...


class WatchFunction(KeyedProcessFunction):  # type: ignore[misc]
    """Rows (name, content, problem) of the files of a folder in, and of the folder itself; nothing out."""

    def __init__(self, folder: str, log_id: str, storage: ServerAddress, search: ServerAddress) -> None:
        """Keeps settings.

        Args:
            folder: The root of the manifests, a path or a URI, as the servers know it.
            log_id: Kafka's topic id of `joined`.
            storage: The storage server.
            search: The search server.
        """
        self._folder, self._log_id, self._at_storage, self._at_search = folder, log_id, storage, search

    def open_storage(self) -> _Storage:
        """A client of the storage server."""
        at = self._at_storage
        return StorageClient(at.address, at.deadline_s, at.max_message_bytes, at.credentials)

    def open_search(self) -> _Search:
        """A client of the search server."""
        at = self._at_search
        return SearchClient(at.address, at.deadline_s, at.max_message_bytes, Caller.STREAM, at.credentials)

    def open(self, runtime_context: RuntimeContext) -> None:
        """Called by Flink at the start of the task."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._saved = runtime_context.get_state(ValueStateDescriptor("manifests", StateBytes()))
        self._heard = runtime_context.get_state(ValueStateDescriptor("folder", StateBytes()))
        self._metrics = WatchMetrics(runtime_context)
        self._watch: ManifestWatch | None = None
        self._written = b""
        self._told: set[str] = set()
        self._armed = False
        self._storage = self.open_storage()
        self._search = self.open_search()

    def close(self) -> None:
        """Called by Flink at the end of the task, also after a failed start."""
        for name in ("_storage", "_search"):
            client = getattr(self, name, None)
            if client is not None:
                client.close()

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Sequence[Any]:
        """Takes a file, or a word on the folder. A timer asks the servers."""
        watch = self._resumed()
        name, content, problem = value[0], value[1], value[2]
        if name.startswith("."):
            self._hear(name, problem or "")
            self._settle(watch, [], ctx.timer_service(), wait_ms=AWAY_MS)
            return ()
        self._metrics.seen()
        ended = watch.add(name, None if content is None else bytes(content), problem or "")
        self._settle(watch, [] if ended is None else [ended], ctx.timer_service(), wait_ms=0)
        return ()

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Sequence[Any]:
        """Asks the servers for what comes next."""
        watch = self._resumed()
        self._armed = False
        ended = watch.look()
        self._settle(watch, ended, ctx.timer_service(), wait_ms=AWAY_MS if watch.waiting else LOOK_MS)
        return ()

    def _resumed(self) -> ManifestWatch:
        if self._watch is None:
            self._written = self._saved.value() or b""
            known = _decoded(unseal(self._written, _KEPT)) if self._written else []
            self._watch = ManifestWatch(self._folder, self._log_id, self._storage, self._search, known)
        return self._watch

    def _hear(self, word: str, problem: str) -> None:
        """Keeps a word on the folder, unless a later one came before it: Flink reads what is listed in any order."""
        said_ms = int(word.rpartition("-")[2])
        if said_ms > self._folder_said()[0]:
            self._heard.update(seal(json.dumps([said_ms, problem]).encode()))
            if problem:
                log.warning("the folder of manifests %s does not answer: %s", self._folder, problem)

    def _folder_said(self) -> tuple[int, str]:
        """When the last word on the folder was said, and why it does not answer; empty: it does."""
        kept = self._heard.value()
        said_ms, problem = json.loads(unseal(kept, _HEARD)) if kept else (0, "")
        return said_ms, problem

    def _settle(self, watch: ManifestWatch, ended: Sequence[Ended], timers: TimerService, wait_ms: int) -> None:
        for each in ended:
            self._metrics.ended(each.end)
            if each.end is End.LIVE:
                log.info("manifest %s is live", each.name)
            else:
                log.warning("manifest %s is %s%s", each.name, each.end, f": {each.why}" if each.why else "")
        for name in watch.waiting.keys() - self._told:  # once, not at each look
            log.warning("manifest %s waits: %s", name, watch.waiting[name])
        self._told = set(watch.waiting)
        now = seal(_encoded(watch.known))
        if now != self._written:
            self._saved.update(now)
            self._written = now
        away = self._folder_said()[1] != ""
        self._metrics.state(len(watch.known), len(watch.waiting) + away)
        # Also while the folder is away: a task that starts again tells the metric at the next timer.
        if (watch.known or away) and not self._armed:
            timers.register_processing_time_timer(timers.current_processing_time() + wait_ms)
            self._armed = True


def _encoded(known: Iterable[Watched]) -> bytes:
    return json.dumps(sorted((each.name, each.manifest_id, each.kind) for each in known)).encode()


def _decoded(kept: bytes) -> list[Watched]:
    try:
        return [Watched(name, manifest_id, Kind(kind)) for name, manifest_id, kind in json.loads(kept)]
    except (ValueError, TypeError) as error:
        raise StateDamagedError(_KEPT, str(error)) from error
