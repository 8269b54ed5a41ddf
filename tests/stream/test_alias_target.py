"""A signal is ready for readers if its job runs and does not lag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import SettingsError, UnavailableError
from stream.alias_target import MOST_BEHIND, doubts
from stream.flink_rest import JobState
from stream.job_control import JobControl
from tests.support.stack import stack_settings


def of(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    state: Callable[[], JobState | None],
    lag: Callable[[], dict[str, int]] = lambda: {"search": 0, "joined": 0},
) -> list[str]:
    monkeypatch.setattr(JobControl, "state", lambda self: state())
    monkeypatch.setattr(JobControl, "lag", lambda self: lag())
    return doubts(stack_settings(folder), "photos")


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


def test_a_job_that_lags_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    behind = {"search": MOST_BEHIND, "score": 234}
    assert of(monkeypatch, tmp_path, job("RUNNING"), lambda: behind) == ["its job is 1,234 records behind"]


@pytest.mark.parametrize("error", [UnavailableError("Flink is down\nin detail"), SettingsError("Flink is down")])
def test_what_cannot_be_asked_is_a_doubt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception) -> None:
    assert of(monkeypatch, tmp_path, failing(error)) == ["Flink is down"]  # type: ignore[arg-type]
    assert of(monkeypatch, tmp_path, job("RUNNING"), failing(error)) == ["Flink is down"]  # type: ignore[arg-type]
