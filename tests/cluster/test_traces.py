"""Traces on the real parts: an image that asks for one gets it on `debug`, and others do not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.traces import Trace, TraceReason, parse_trace
from stream.cli.main import main
from stream.local.resolved import resolved_toml
from stream.publish import Publisher, publish
from tests.support.stack import Stack, eventually, sample_rows

pytestmark = pytest.mark.cluster

COUNT = 20
"""Images of the sample that no other test publishes, under other ids; each second one asks for a trace."""


def traces(stack: Stack, prefix: str) -> list[Trace]:
    """What `debug` has of these images."""
    found = []
    for value in stack.records(stack.signal.topic("debug")):
        trace = parse_trace(value)
        if trace.image_id.startswith(prefix):
            found.append(trace)
    return found


@pytest.fixture(scope="module")
def traced(stack: Stack) -> dict[str, Trace]:
    """The traces of the images that asked for one, by image."""
    rows = [replace(row, image_id=f"traced-{number}") for number, row in enumerate(sample_rows(COUNT, skip=2_080))]
    with Publisher(stack.settings) as publisher:
        publish(rows[0::2], publisher, trace=True)
        publish(rows[1::2], publisher)
    stack.await_heads([row.image_id for row in rows])
    asked = {row.image_id for row in rows[0::2]}

    def all_there() -> list[Trace] | None:
        known = traces(stack, "traced-")
        return known if {each.image_id for each in known} >= asked else None

    found = eventually(
        all_there,
        60,
        lambda: f"{len(traces(stack, 'traced-'))} of {len(asked)} traces",
    )
    assert {each.image_id for each in found} == asked
    return {each.image_id: each for each in found}


def test_a_trace_says_what_storage_wrote(stack: Stack, traced: dict[str, Trace]) -> None:
    changes = {each["history_number"]: each for each in stack.assignments()}
    for image_id, trace in traced.items():
        assert (trace.reason, trace.kind, trace.outcome) == (TraceReason.FLAG, "image", "decided")
        assert not trace.repeated
        assert trace.writes is not None
        written = changes[trace.writes.first]
        assert (written["image_id"], written["place"]) == (image_id, trace.place)
        assert trace.choice is not None
        assert (written["head"], written["matched"], written["score"]) == (
            trace.choice.head,
            trace.choice.matched,
            trace.choice.score,
        )
        assert trace.versions.model == written["versions"]["model"]
        assert trace.versions.settings


def test_a_trace_has_times_of_all_steps_and_both_halves(traced: dict[str, Trace]) -> None:
    for trace in traced.values():
        assert [step.name for step in trace.steps] == ["search", "score", "assign"]
        assert all(0 < step.entered_ms <= step.left_ms and step.tries >= 1 for step in trace.steps)
        assert {half.side for half in trace.halves} == {"search", "score"}
        assert trace.join_wait_ms is not None
        assert trace.terms is not None
        assert trace.terms.count == 128


def test_the_command_line_shows_and_explains_it(
    stack: Stack,
    traced: dict[str, Trace],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "neardup.toml"
    file.write_text(resolved_toml(stack.settings), encoding="utf-8")
    monkeypatch.setenv("NEARDUP_SETTINGS", str(file))
    image_id, trace = next(iter(traced.items()))
    assert main(["debug", "show", image_id]) == 0
    assert image_id in capsys.readouterr().out
    assert main(["explain", image_id, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert trace.choice is not None
    assert answer["recorded"]["image_id"] == image_id
    assert answer["at_place"]["verdict"]["terms"]["fingerprint"] == (trace.terms and trace.terms.fingerprint)
