"""How things are put into words."""

from __future__ import annotations

import json

import pytest

from stream.cli.output import MOST_SHOWN, counted, show_first, show_json_with_list
from stream.cli.texts import duration_text, job_text, time_text
from stream.flink_rest import JobState


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_600, "1 h 0 min"), (90_000, "1 d 1 h")],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_times_are_iso_in_utc() -> None:
    assert time_text(1_714_521_600_120) == "2024-05-01T00:00:00.120Z"


def test_numbers_have_their_noun() -> None:
    assert (counted(1, "image"), counted(0, "image"), counted(2_000, "index", "indices")) == (
        "1 image",
        "0 images",
        "2,000 indices",
    )


def test_a_job_in_one_line() -> None:
    assert job_text(None) == "Flink knows no job"
    assert job_text(JobState("j1", "neardup-x", "RUNNING", 0)).startswith("neardup-x: RUNNING, job j1, since 1970")


@pytest.mark.parametrize("items", [[], ["a"], ['quo"te', "ü", "b"]])
def test_a_list_that_is_not_held_is_good_json(items: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    show_json_with_list({"head": "h", "count": 3}, "members", iter(items))
    assert json.loads(capsys.readouterr().out) == {"head": "h", "count": 3, "members": items}


@pytest.mark.parametrize(("count", "last"), [(2, "text 1"), (MOST_SHOWN, f"text {MOST_SHOWN - 1}"), (5_000, None)])
def test_of_a_long_list_the_first_texts_are_shown(
    count: int, last: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be longer than the texts that are known."""
    show_first((f"text {number}" for number in range(min(count, 1_000))), count, ": see elsewhere")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["text 0", "text 1"]
    assert lines[-1] == (last or "and 4,900 more: see elsewhere")
