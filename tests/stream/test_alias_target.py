"""A signal is ready for readers if its job runs and does not lag, nothing is loaded, and its API can be found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.errors import SettingsError, UnavailableError
from core.first_loads import LoadReport, LoadRequest, LoadState
from stream import alias_target
from stream.alias_target import MOST_BEHIND, doubts
from stream.flink_rest import JobState
from stream.job_control import JobControl
from stream.settings import Settings
from tests.support.loading_server import LoadingServer
from tests.support.stack import PHOTOS, stack_settings


@pytest.fixture(autouse=True)
def storage(monkeypatch: pytest.MonkeyPatch) -> LoadingServer:
    """The storage server that is asked."""
    server = LoadingServer()
    monkeypatch.setattr(alias_target, "servers", lambda *_: nullcontext(SimpleNamespace(storage=server)))
    return server


def of(
    monkeypatch: pytest.MonkeyPatch,
    where: Path | Settings,
    state: Callable[[], JobState | None],
    lag: Callable[[], dict[str, int]] = lambda: {"search": 0, "joined": 0},
) -> list[str]:
    monkeypatch.setattr(JobControl, "state", lambda self: state())
    monkeypatch.setattr(JobControl, "lag", lambda self: lag())
    return doubts(where if isinstance(where, Settings) else stack_settings(where), "photos")


def job(state: str) -> Callable[[], JobState]:
    return lambda: JobState("0123", "neardup-photos", state, 1)


def failing(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_a_job_that_keeps_up_is_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert of(monkeypatch, tmp_path, job("RUNNING")) == []
    assert of(monkeypatch, tmp_path, job("RUNNING"), lambda: {"search": MOST_BEHIND - 1, "score": 1}) == []


def test_a_job_that_does_not_run_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert of(monkeypatch, tmp_path, lambda: None) == ["its job is not known to Flink"]
    for state in ("FAILED", "RESTARTING"):
        assert of(monkeypatch, tmp_path, job(state)) == [f"its job is {state.lower()}"]


@pytest.mark.parametrize("state", LoadState)
def test_a_first_load_that_is_under_way_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, storage: LoadingServer, state: LoadState
) -> None:
    storage.report = LoadReport(LoadRequest("/data", "a.json", "4f0c", "topic"), state)
    told = of(monkeypatch, tmp_path, job("RUNNING"))
    waits = state in (LoadState.LOADING, LoadState.WAITING, LoadState.READY)
    assert told == ([f"its first load is {state}"] if waits else [])


def test_a_storage_server_that_is_down_is_a_doubt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, storage: LoadingServer
) -> None:
    storage.down = True
    assert of(monkeypatch, tmp_path, job("RUNNING")) == ["down"]


@pytest.mark.parametrize(
    ("api", "doubted"),
    [
        ({}, False),
        ({"bind_host": "0.0.0.0"}, True),
        ({"bind_host": "0.0.0.0", "host": "localhost"}, True),
        ({"bind_host": "0.0.0.0", "host": "storage"}, False),
        ({"bind_host": "0.0.0.0", "public_url": "https://photos.example/api"}, False),
        ({"bind_host": "0.0.0.0", "public_url": "http://[::1]:8080"}, True),
        ({"public_url": "https://photos.example"}, False),
    ],
)
def test_readers_of_other_machines_are_not_sent_to_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, api: dict[str, str], *, doubted: bool
) -> None:
    settings = stack_settings(tmp_path, {"photos": PHOTOS})
    photos = settings.signals["photos"]
    changed = photos.model_copy(update={"api": photos.api.model_copy(update=api)})
    told = of(monkeypatch, settings.model_copy(update={"signals": {"photos": changed}}), job("RUNNING"))
    assert [each.partition(":")[2].split(" in ")[-1] for each in told] == ["[signals.photos.api]"] * doubted


def test_a_job_that_lags_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    behind = {"search": MOST_BEHIND, "score": 234}
    assert of(monkeypatch, tmp_path, job("RUNNING"), lambda: behind) == ["its job is 1,234 records behind"]


@pytest.mark.parametrize("error", [UnavailableError("Flink is down\nin detail"), SettingsError("Flink is down")])
def test_what_cannot_be_asked_is_a_doubt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception) -> None:
    assert of(monkeypatch, tmp_path, failing(error)) == ["Flink is down"]  # type: ignore[arg-type]
    assert of(monkeypatch, tmp_path, job("RUNNING"), failing(error)) == ["Flink is down"]  # type: ignore[arg-type]
