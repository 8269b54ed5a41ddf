"""Mends a store while the stream writes: all is checked on a view, and what is wrong is mended in small writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from storage.errors import CorruptedError
from storage.interfaces import ClusterStore
from storage.records import Mend
from storage.verify import REPORT_EVERY, Problem, VerifyProgress, verify

__all__ = ["repair"]

MENDS_AT_ONCE = 200
"""Of one write. The stream waits for it, and looks up again after it."""

PAUSE_S = 0.05
"""After each write, for the stream."""


def repair(
    store: ClusterStore, report_every: int = REPORT_EVERY, sleep: Callable[[float], None] = time.sleep
) -> Iterator[VerifyProgress]:
    """Checks everything, and mends what the images alone can mend. The last report has what was found.

    Clusters are mended once each, after the edges of their members, and not at all if an image cannot be read: nobody
    knows then who belongs to them. A record that cannot be read is mended by nothing here.
    """
    records: list[Mend] = []
    clusters: dict[Mend, None] = {}
    counts: list[Mend] = []
    unread: set[str] = set()

    def heed(problem: Problem) -> None:
        if problem.unread:
            unread.add(problem.unread)
        for mend in problem.mends:
            if mend.what == "cluster":
                clusters[mend] = None
            else:
                (counts if mend.what == "count" else records).append(mend)

    with store.snapshot() as view:
        for progress in verify(view, report_every, heed):
            _mend(store, records, sleep)
            records.clear()
            if progress.done:
                _mend(store, () if "images" in unread else clusters, sleep)
                _mend(store, counts, sleep)
            yield progress


def _mend(store: ClusterStore, mends: Iterable[Mend], sleep: Callable[[float], None]) -> None:
    left = iter(mends)
    while some := list(islice(left, MENDS_AT_ONCE)):
        try:
            store.mend(some)
        except CorruptedError:
            if len(some) > 1:
                for one in some:
                    _mend(store, [one], sleep)
            continue
        sleep(PAUSE_S)
