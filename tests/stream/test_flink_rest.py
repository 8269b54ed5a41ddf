"""What we make of Flink's REST answers, and of none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.errors import ServiceError, UnavailableError
from stream.flink_rest import FlinkRest, JobState
from stream.flink_tls import FlinkTls

Answers = Mapping[str, Any]


def rest(answers: Answers, asked: list[tuple[str, str, Any]] | None = None) -> FlinkRest:
    """A client of a job manager that knows these answers, by method and path; a list is given one by one."""
    left = {key: list(value) if isinstance(value, list) else [value] for key, value in answers.items()}

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        if asked is not None:
            asked.append((request.method, request.url.path, body))
        values = left.get(f"{request.method} {request.url.path}")
        if values is None:
            return httpx.Response(404, text="no such path")
        value = values[0] if len(values) == 1 else values.pop(0)
        return httpx.Response(value, text="broken") if isinstance(value, int) else httpx.Response(200, json=value)

    return FlinkRest("127.0.0.1", 1, FlinkTls(Path("unused")), transport=httpx.MockTransport(answer))


def job(job_id: str, name: str, state: str, started: int) -> dict[str, object]:
    return {"jid": job_id, "name": name, "state": state, "start-time": started}


def test_the_live_job_of_a_name_wins_over_newer_ended_ones() -> None:
    jobs = [job("a", "ours", "RUNNING", 1), job("b", "ours", "FAILED", 9), job("c", "theirs", "RUNNING", 5)]
    assert rest({"GET /jobs/overview": {"jobs": jobs}}).job("ours") == JobState("a", "ours", "RUNNING", 1)
    assert rest({"GET /jobs/overview": {"jobs": jobs[1:]}}).job("ours") == JobState("b", "ours", "FAILED", 9)
    assert rest({"GET /jobs/overview": {"jobs": []}}).job("ours") is None


@pytest.mark.parametrize(("state", "live"), [("RUNNING", True), ("RESTARTING", True), ("FAILED", False)])
def test_live_states(state: str, live: bool) -> None:
    assert JobState("a", "ours", state, 1).live is live


def test_a_job_runs_when_every_task_does() -> None:
    def vertices(*states: str) -> Answers:
        return {"GET /jobs/a": {"vertices": [{"status": state} for state in states]}}

    assert rest(vertices("RUNNING", "RUNNING")).running("a")
    assert not rest(vertices("RUNNING", "INITIALIZING")).running("a")
    assert not rest(vertices()).running("a")


def test_stop_with_savepoint_waits_for_the_savepoint_and_the_end() -> None:
    asked: list[tuple[str, str, Any]] = []
    flink = rest(
        {
            "POST /jobs/a/stop": {"request-id": "t"},
            "GET /jobs/a/savepoints/t": [
                {"status": {"id": "IN_PROGRESS"}},
                {"status": {"id": "COMPLETED"}, "operation": {"location": "file:/data/savepoint-1"}},
            ],
            "GET /jobs/a": [{"state": "RUNNING"}, {"state": "FINISHED"}],
        },
        asked,
    )
    assert flink.stop_with_savepoint("a", Path("/data")) == Path("/data/savepoint-1")
    assert asked[0] == ("POST", "/jobs/a/stop", {"targetDirectory": "file:///data", "drain": False})


def test_a_savepoint_that_failed_is_an_error_with_flinks_reason() -> None:
    failed = {"status": {"id": "COMPLETED"}, "operation": {"failure-cause": {"stack-trace": "no space left\n\tat x"}}}
    flink = rest({"POST /jobs/a/stop": {"request-id": "t"}, "GET /jobs/a/savepoints/t": failed})
    with pytest.raises(ServiceError, match="no space left"):
        flink.stop_with_savepoint("a", Path("/data"))


def test_failures_newest_first() -> None:
    entries = [{"timestamp": 9, "stacktrace": "LogGapError: x"}, {"timestamp": 3, "stacktrace": "older"}]
    flink = rest({"GET /jobs/a/exceptions": {"exceptionHistory": {"entries": entries}}})
    assert flink.failures("a") == [(9, "LogGapError: x"), (3, "older")]


@pytest.mark.parametrize(("status", "error"), [(503, UnavailableError), (400, ServiceError)])
def test_refusals_and_breakdowns(status: int, error: type[ServiceError]) -> None:
    with pytest.raises(error, match="broken"):
        rest({"GET /overview": status}).slots()


def test_nobody_there() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    refused: Callable[[httpx.Request], httpx.Response] = refuse
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1: refused"):
        FlinkRest("127.0.0.1", 1, FlinkTls(Path("unused")), transport=httpx.MockTransport(refused)).jobs()
