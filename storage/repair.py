"""Mends a store while the stream writes: all is checked on a view, and what is wrong is mended in small writes."""

from __future__ import annotations

from collections.abc import Iterator

from storage.interfaces import ClusterStore
from storage.records import Mend
from storage.verify import REPORT_EVERY, Problem, VerifyProgress, verify

__all__ = ["repair"]

MENDS_AT_ONCE = 200
"""Of one write. The stream waits for it."""


def repair(store: ClusterStore, report_every: int = REPORT_EVERY) -> Iterator[VerifyProgress]:
    """Checks everything, and mends what the images alone can mend. The last report has what was found.

    Check again afterwards: one repair may uncover the next damage, and not all can be mended.
    """
    mends: list[Mend] = []

    def heed(problem: Problem) -> None:
        if problem.mend is not None:
            mends.append(problem.mend)
        if len(mends) >= MENDS_AT_ONCE:
            store.mend(mends)
            mends.clear()

    with store.snapshot() as view:
        for progress in verify(view, report_every, heed):
            if progress.done and mends:
                store.mend(mends)
            yield progress
