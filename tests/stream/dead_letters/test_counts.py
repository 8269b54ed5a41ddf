"""The runner's page says how many dead letters are open, and `open_counts` reads it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from core.dead_letters import Reason
from core.errors import UnavailableError
from core.status_page import StatusPage
from stream.dead_letters.counts import open_counts
from stream.job_watch import JobMetrics
from tests.support.ports import free_ports


@pytest.fixture
def page() -> Iterator[tuple[int, JobMetrics]]:
    metrics, (port,) = JobMetrics(), free_ports(1)
    page = StatusPage("127.0.0.1", port, metrics.registry)
    page.start()
    yield port, metrics
    page.stop()


def test_counts_are_those_that_the_runner_shows(page: tuple[int, JobMetrics]) -> None:
    port, metrics = page
    assert open_counts("127.0.0.1", port) is None
    metrics.show_dead_letters(dict.fromkeys(Reason, 0) | {Reason.FAULTED: 3, Reason.LOST: 1})
    assert open_counts("127.0.0.1", port) == {"faulted": 3, "lost": 1}
    metrics.show_dead_letters(dict.fromkeys(Reason, 0))
    assert open_counts("127.0.0.1", port) == {}


def test_a_runner_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:\d+/metrics"):
        open_counts("127.0.0.1", free_ports(1)[0])
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(500, request=httpx.Request("GET", "http://x")))
    with pytest.raises(UnavailableError):
        open_counts("127.0.0.1", 1)
