"""The index hears now and then how far storage has come; that it cannot be reached disturbs nothing."""

from __future__ import annotations

import pytest

from core.errors import MismatchError, NeardupError, UnavailableError
from operators.commit_reporter import EVERY_S, CommitReporter


class Index:
    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.error: NeardupError | None = None

    def release(self, log_id: str, offset: int, deadline_s: float | None = None) -> None:
        if self.error is not None:
            raise self.error
        assert deadline_s is not None
        assert deadline_s <= 1
        self.told.append((log_id, offset))


def test_reports_are_apart() -> None:
    # t: 0 tells 0 | 9.9 nothing yet | 10 tells 2 | 19.9 nothing | 20 tells 4
    now = [0.0]
    index = Index()
    releases = CommitReporter(index, "log-1", lambda: True, lambda: now[0])
    for offset, at in enumerate((0.0, EVERY_S - 0.1, EVERY_S, 2 * EVERY_S - 0.1, 2 * EVERY_S)):
        now[0] = at
        releases.committed(offset)
    assert index.told == [("log-1", 0), ("log-1", 2), ("log-1", 4)]


def test_there_is_no_report_before_what_must_be_done_first() -> None:
    now, ready = [0.0], [False]
    index = Index()
    releases = CommitReporter(index, "log-1", lambda: ready[0], lambda: now[0])
    releases.committed(0)
    now[0] = EVERY_S
    ready[0] = True
    releases.committed(1)
    assert index.told == [("log-1", 1)]


def test_a_report_can_be_made_due() -> None:
    index = Index()
    releases = CommitReporter(index, "log-1", lambda: True, lambda: 0.0)
    for offset, soon in enumerate((False, True, False, False)):
        releases.committed(offset, soon)
    assert index.told == [("log-1", 0), ("log-1", 2)]


@pytest.mark.parametrize("error", [UnavailableError("down"), MismatchError("another log")])
def test_a_failure_is_ignored_and_the_next_report_comes_at_its_time(error: NeardupError) -> None:
    now = [EVERY_S]
    index = Index()
    releases = CommitReporter(index, "log-1", lambda: True, lambda: now[0])
    now[0] = 2 * EVERY_S
    index.error = error
    releases.committed(1)
    index.error = None
    releases.committed(2)
    assert index.told == []
    now[0] = 3 * EVERY_S
    releases.committed(3)
    assert index.told == [("log-1", 3)]


def test_a_report_can_be_made_at_once() -> None:
    index = Index()
    releases = CommitReporter(index, "log-1", lambda: True, lambda: 0.0)
    for offset, at_once in enumerate((False, True, False)):
        releases.committed(offset, at_once=at_once)
    assert index.told == [("log-1", 0), ("log-1", 1)]
