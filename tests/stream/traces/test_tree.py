"""A drawn trace says what was decided and why, with every match, whatever its texts hold."""

from __future__ import annotations

import io
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from core.traces import Choice, LossReason, Trace, TracedCandidate, TracedRow, TraceKind, Why
from core.types import Cause, Outcome
from stream.printable import printable
from stream.traces.tree import trace_tree
from stream.traces.words import trace_line
from tests.support.traces import sample_trace


def drawn(trace: Trace, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=400, color_system=None)
    console.print(trace_tree(trace, **options))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_says_what_was_decided_and_why() -> None:
    text = drawn(sample_trace())
    assert text.splitlines()[0] == "harbour-3 version 1 -> harbour-1  (decided, matched)"
    for said in (
        "it matches an image whose head accepts it",
        "match harbour-2, score 0.93000",
        "search embedding at 2023-11-14T22:13:19.970Z, partition 0/4",
        "the first half waited 30 ms for the second",
        "128 terms, fingerprint 9c4f01aa",
        "(accept 0.5, head_accept 0.25, adopt 0.75)",
        "+ harbour-2  score 0.93000  overlap 40  place 2  head harbour-1  head scores 0.87500",
        "- sunset-9  score 0.97000  overlap 3  place 6  head sunset-1  head scores 0.12500: its head scores below",
        "a better match has the same head",
        "adopted (0.81250 against the chosen head)",
        "pier-1, score 0.81250",
        "history 8 to 9",
        "model 2026-11-20",
        "assign 18 ms, 2 tries",
        "from the second half to the verdict 40 ms",
    ):
        assert said in text, said


def test_a_row_of_a_manifest_is_named() -> None:
    row = TracedRow("0f" * 16, 7, "old-head", "elsewhere_pinned")
    for each, said in ((row, ": elsewhere pinned"), (replace(row, result=None), "")):
        lines = [line.rstrip() for line in drawn(replace(sample_trace(), row=each)).splitlines()]
        assert any(line.endswith(f"row 7 of manifest {'0f' * 16}, head old-head{said}") for line in lines)


def test_distances_and_the_gate_are_shown_where_they_are_known() -> None:
    near = TracedCandidate("near", 1, 2, 0.25, lost=LossReason.BELOW_ACCEPT, distance=301)
    far = TracedCandidate("far", 3, 4, None, lost=LossReason.BEYOND_GATE, distance=500)
    text = drawn(replace(sample_trace(), candidates=(near, far), gate=427))
    assert "(accept 0.5, head_accept 0.25, adopt 0.75, gate 427)" in text
    assert "- near  score 0.25000  overlap 2  distance 301  place 1: it scores below" in text
    assert "- far  score none  overlap 4  distance 500  place 3: its code is further away than any" in text
    assert "distance" not in drawn(sample_trace())


def test_a_replay_that_changed_nothing_says_so() -> None:
    text = drawn(sample_trace(kind=TraceKind.REPLAY, outcome=Outcome.REPLAYED, choice=None))
    assert "nothing changed: its verdict has these versions already" in text
    assert "nothing changed" not in drawn(sample_trace(kind=TraceKind.REPLAY, outcome=Outcome.REPLAYED))


def test_a_question_has_no_time_to_the_verdict() -> None:
    assert "to the verdict" not in drawn(replace(sample_trace(), steps=()))


def test_a_verdict_without_anything_is_drawn_too() -> None:
    bare = Trace(
        kind=TraceKind.IMAGE,
        image_id="",
        version=0,
        position=4,
        place=-1,
        outcome=Outcome.UNREADABLE,
        cause=None,
        reason="unscored",
    )
    assert "(a record that names no image)" in drawn(bare)
    assert "candidates" not in drawn(bare)
    assert trace_line(bare, 1_000).startswith("1970-01-01T00:00:01.000Z  -  v0")


def test_an_unscored_image_says_what_failed() -> None:
    choice = Choice("a", None, None, None, None, Why.UNSCORED)
    text = drawn(sample_trace(cause=Cause.UNSCORED, choice=choice, unscored="the scorer refused it", candidates=()))
    assert "it could not be searched or scored" in text
    assert "the scorer refused it" in text


def test_a_dry_run_says_that_nothing_was_written() -> None:
    text = drawn(sample_trace(kind=TraceKind.REPLAY, dry_run=True, writes=None, request_id="r-7"))
    assert "dry run: nothing was written" in text
    assert "request r-7" in text
    assert "history" not in text


def test_many_candidates_are_counted_and_the_chosen_one_is_drawn() -> None:
    matches = tuple(TracedCandidate(f"match-{n}", n, 9, 0.9, "h", None, LossReason.WORSE) for n in range(80))
    chosen = TracedCandidate("chosen", 99, 9, 0.6, "harbour-1", 0.9)
    others = tuple(TracedCandidate(f"other-{n}", n, 9, 0.1, lost=LossReason.BELOW_ACCEPT) for n in range(40))
    text = drawn(sample_trace(candidates=(*matches, chosen, *others), dropped_candidates=7), shown_candidates=3)
    assert "+ chosen" in text
    assert (text.count("match-"), text.count("other-")) == (50, 3)
    assert "and 74 more, of which 7 did not fit the trace" in text


def test_words_of_a_later_release_are_shown_as_they_are() -> None:
    strange = TracedCandidate("a", 1, 2, 0.9, lost="quarantined", adoption="frozen")
    choice = Choice("h", None, None, None, None, "pinned_by_hand")
    text = drawn(sample_trace(candidates=(strange,), choice=choice, outcome="moved", cause="pinned"))
    assert ": quarantined; frozen" in text
    assert "pinned_by_hand" in text


@pytest.mark.parametrize("nasty", ["[red]x[/red]", "\x1b[2J", "a\nb", "\u202egpj", "[/x]"])
def test_texts_of_others_are_harmless(nasty: str) -> None:
    candidate = TracedCandidate(nasty, 1, 2, 0.9, nasty, 0.5, nasty, nasty, 0.5)
    trace = sample_trace(
        image_id=nasty,
        candidates=(candidate,),
        choice=Choice(nasty, nasty + "x", nasty, 0.5, 0.5, nasty),
        unscored=nasty,
        rules=(nasty,),
        request_id=nasty,
        reason=nasty,
        outcome=nasty,
        cause=nasty,
    )
    text = drawn(trace)
    assert printable(nasty) in text
    assert all(printable(line) == line for line in text.split("\n"))


def test_every_field_is_drawn_or_left_out_on_purpose() -> None:
    """A field that is added to traces must be drawn, or named here."""
    left_out = {"trace", "created_at_ms"}
    folder = Path(trace_tree.__code__.co_filename).parent
    source = "".join((folder / name).read_text(encoding="utf-8") for name in ("tree.py", "choice.py"))
    assert {each.name for each in fields(Trace) if f"trace.{each.name}" not in source} == left_out


@pytest.mark.parametrize("kind", ["image", "step"])
def test_without_a_choice_no_candidate_gave_the_image_its_head(kind: str) -> None:
    """A duplicate was not decided, and a step comes before the verdict."""
    trace = replace(sample_trace(), kind=kind, choice=None)
    matches = [replace(each, lost=None) for each in trace.candidates]
    text = drawn(replace(trace, candidates=tuple(matches)))
    assert "it gave the image its head" not in text
    assert f"- {matches[0].image_id}" in text
