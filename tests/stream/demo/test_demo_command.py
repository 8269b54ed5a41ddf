"""What `neardup demo` prints at its end: something to look at."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import stream.demo.run
from core.traces import Choice, LossReason, TracedCandidate, TraceKind, Why, trace_json
from core.types import Thresholds
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.demo.report import ChangedVerdict, DemoQuality, DemoReplay, DemoReport, LargeCluster, LawCheck, Score
from stream.verdicts import Latency
from tests.support.traces import sample_trace

ROOT = Path(__file__).parents[3]
SCORE = Score(1.0, 1.0, 1.0)

EXPLAINED = sample_trace(
    kind=TraceKind.QUESTION,
    image_id="clothing-abb1166b44-e11",
    thresholds=Thresholds(accept=0.932053, head_accept=0.0632609, adopt=0.0632609),
    candidates=(
        TracedCandidate("clothing-abb1166b44-e01", 823, 24, 0.99997, "clothing-44278552b2-e01", 0.20622, distance=67),
        TracedCandidate("clothing-9", 7, 1, 0.01, lost=LossReason.BELOW_ACCEPT),
    ),
    gate=187,
    choice=Choice("clothing-44278552b2-e01", None, "clothing-abb1166b44-e01", 0.99997, 0.20622, Why.MATCHED),
)
"""What the README shows of the tree."""


def report(picture: Path | None) -> DemoReport:
    return DemoReport(
        images=3,
        clusters=2,
        alone=1,
        causes={"founded": 2, "matched": 1},
        dead_letters=0,
        largest=(LargeCluster("a1", 2, ("a1", "a2")),),
        picture=None if picture is None else str(picture),
        quality=DemoQuality(2, 3, SCORE, SCORE),
        latency=Latency(3, 10, 20, 20),
        law=LawCheck(3, 2, 0, ()),
        published_per_s=120.0,
        seconds={},
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with empty settings."""
    (tmp_path / "neardup.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEARDUP_SETTINGS", raising=False)
    return tmp_path


def shown(found: DemoReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    monkeypatch.setattr(stream.demo.run, "run_demo", lambda *_: found)
    assert main(["demo", *options]) == Exit.OK
    return capsys.readouterr().out


def test_it_names_the_picture_as_a_user_would_type_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(report(folder / "var" / "demo" / "cluster.png"), monkeypatch, capsys)
    assert "is drawn in var/demo/cluster.png\n" in text
    assert "/docs" not in text


def test_without_a_picture_it_names_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "drawn" not in shown(report(None), monkeypatch, capsys)


def test_kept_up_it_names_the_page_of_the_api(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(report(None), monkeypatch, capsys, "--keep")
    assert "http://127.0.0.1:18080/docs" in text
    assert "neardup similar a1" in text


def test_it_draws_a_verdict_and_shows_what_a_replay_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = ChangedVerdict("a2", "other score", "a1", "a1", 0.75, 0.5)
    found = replace(
        report(None),
        explained=json.loads(trace_json(sample_trace())),
        replay=DemoReplay(2, {"other score": 1, "same": 1}, (changed,)),
    )
    text = shown(found, monkeypatch, capsys)
    assert "harbour-3 version 1 -> harbour-1" in text
    assert "2 images decided again (`neardup replay --diff`): other score 1, same 1" in text
    assert re.search(r"a2 +other score +a1 +a1 +0.75 +0.5", text)


def test_the_readme_shows_what_it_prints(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = replace(
        report(folder / "var" / "demo" / "cluster.png"),
        images=2_145,
        clusters=812,
        alone=677,
        quality=DemoQuality(252, 778, Score(0.945, 0.777, 0.853), Score(0.979, 0.768, 0.861)),
        latency=Latency(2_145, 121, 716, 772),
        law=LawCheck(2_145, 812, 0, ()),
        explained=json.loads(trace_json(EXPLAINED)),
        replay=DemoReplay(10, {"other match": 7, "same": 3}, ()),
    )
    block = re.search(r"```\n(images in.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    lines = [line for line in block.group(1).splitlines() if line not in ("", "...")]
    assert len(lines) > 10
    printed = shown(found, monkeypatch, capsys).splitlines()
    assert [line for line in lines if line.rstrip() not in {text.rstrip() for text in printed}] == []
