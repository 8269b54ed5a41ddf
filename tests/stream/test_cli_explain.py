"""`neardup explain` against the real HTTP API."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from core.types import Cause, Move
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, decided, founds, joins, put
from storage.testing.deltas import member
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.support.explained import KnownAnswers
from tests.support.served_api import served_api


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[KnownAnswers]:
    """A server that the command finds, and what it was asked."""
    store, answers = MemoryStore(), KnownAnswers()
    put(store, founds(0, A), joins(1, B, A))
    with served_api(store, explainer=answers) as port:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(port))
        yield answers


def test_the_recorded_verdict_and_both_questions_are_shown(
    answers: KnownAnswers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "b"]) == Exit.OK
    out = capsys.readouterr().out
    assert out.startswith("recorded  a  (matched, match a, score")
    assert ", model " in out.splitlines()[0]
    assert "asked now" in out
    assert "harbour-2" in out
    assert "its head scores below `head_accept` against the image" in out
    assert "asked as of its place, 1 (incomplete" in out
    assert "the index cannot search for it" in out
    assert answers.asked == [("b", None)]


def test_a_recorded_verdict_without_a_score_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = MemoryStore()
    pinned = decided(2, C, Move(C, None, A, Cause.PINNED, None, A))
    put(store, founds(0, A), member(1, B, A, moves=(Move(B, None, A, Cause.BOOTSTRAPPED, None, A),)), pinned)
    with served_api(store, explainer=KnownAnswers()) as port:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(port))
        for image, said in ((B, "bootstrapped: a manifest says so"), (C, "pinned")):
            assert main(["explain", image]) == Exit.OK
            assert capsys.readouterr().out.startswith(f"recorded  a  ({said}, match a, model m1, ")


def test_what_keeps_two_images_apart_is_shown(answers: KnownAnswers, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "b", "--against", "a"]) == Exit.OK
    out = capsys.readouterr().out
    assert "match      no" in out
    assert "would join no" in out
    assert "rules      none" in out
    assert "because    it scores below `accept`, so it is no match (below_accept)" in out
    assert "terms      12 shared, 1 needed" in out
    assert "distance   301 of 1024 bits" in out
    assert "score      0.25000, accept 0.50000" in out
    assert "its head   not known, head_accept 0.25000" in out
    assert answers.asked == [("b", "a")]


def test_json_is_what_the_api_says(answers: KnownAnswers, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "a", "--json"]) == Exit.OK
    answer = json.loads(capsys.readouterr().out)
    assert (answer["image_id"], answer["recorded"]["cause"], answer["now"]["as_of"]) == ("a", "founded", 99)


def test_an_unknown_image_has_its_exit_code(answers: KnownAnswers, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "x"]) == main(["head", "x"]) != Exit.OK
    assert "no verdict on the image 'x'" in capsys.readouterr().err
