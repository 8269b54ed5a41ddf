"""What `neardup status` asks: what is wrong with the topics is told beside the answers of the parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import UnavailableError
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.flink_rest import JobState
from stream.job_control import JobControl
from stream.overview import overview
from tests.support.stack import stack_settings

PROBLEM = "neardup.photos.joined has flush.messages=1000 (needs 1)"


def answering(monkeypatch: pytest.MonkeyPatch, topics: Callable[..., list[str]], down: str = "") -> None:
    """Broker and job manager answer, unless one is down; storage does not."""
    parts: dict[str, Callable[[], str | None]] = {
        name: (lambda name=name: "refused" if name == down else None)  # type: ignore[misc]
        for name in ("broker", "jobmanager")
    }
    monkeypatch.setattr("stream.overview.part_checks", lambda settings: parts)
    monkeypatch.setattr(JobControl, "topic_problems", topics)
    monkeypatch.setattr(JobControl, "state", lambda self: JobState("0123", "neardup-photos", "RUNNING", 1))


def test_topic_problems_are_shown_and_all_is_not_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = stack_settings(tmp_path)
    answering(monkeypatch, lambda self: [])
    assert overview(settings).signals[0].ok
    answering(monkeypatch, lambda self: [PROBLEM])
    found = overview(settings).signals[0]
    assert (found.problems, found.ok) == ((PROBLEM,), False)
    monkeypatch.setenv("NEARDUP_DATA", str(tmp_path))
    assert main(["status"]) == Exit.UNAVAILABLE
    said = capsys.readouterr()
    assert PROBLEM in " ".join(said.out.split())
    assert "signal photos" in said.err


def test_a_broker_that_is_down_is_not_asked_for_its_topics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(_: Any) -> list[str]:
        raise AssertionError

    answering(monkeypatch, asked, down="broker")
    assert overview(stack_settings(tmp_path)).signals[0].problems == ()


def test_a_broker_that_does_not_answer_is_itself_the_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: Any) -> list[str]:
        raise UnavailableError("Kafka does not answer\nin detail")

    answering(monkeypatch, silent)
    assert overview(stack_settings(tmp_path)).signals[0].problems == ("Kafka does not answer",)
