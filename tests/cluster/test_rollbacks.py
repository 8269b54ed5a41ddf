"""The session of the operations page on the real parts: what a bad model decided in an hour is rolled back.

The texts of the second signal are used, as in `test_bad_model`. The bad model may also move singletons of other tests.
The rollback brings them back too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scoring.model_folder import ModelFolder
from tests.support.bad_model import Texts, loose_version
from tests.support.stack import Stack, eventually
from tests.support.text_signal import TextSignal
from tests.support.written_session import WrittenSession, head_of

pytestmark = pytest.mark.cluster

TITLE = "A bad model's hour, rolled back"

VERSION = "pair-hour"
"""The bad version, as the page names it."""

TEXTS = ("hour", 29)
"""How the ids of what is sent begin, and the seed of its vectors."""


@pytest.fixture
def hour(text: TextSignal) -> Iterator[str]:
    """The bad version."""
    with loose_version(Path(text.settings["model"]), VERSION):
        yield VERSION


def next_second() -> str:
    """The time, once the present second has passed: what is written from now on counts as later."""
    now = time.time()
    eventually(lambda: int(time.time()) > int(now) or None, 5, lambda: "the clock stands still")
    return datetime.fromtimestamp(now, UTC).isoformat()


def moved(output: str) -> dict[str, tuple[str, str]]:
    """The images of a dry run, with their heads before and after."""
    rows = re.findall(r"^(hour-\S+)\s+(\S+)\s+(\S+)\s*$", output, re.MULTILINE)
    return {image: (old, new) for image, old, new in rows}


def number_of(output: str) -> str:
    """The number of an override, from the line that tells it."""
    said = re.fullmatch(
        r"override (\d+): \d+ images moved; new images are queued to be decided again; "
        r"`neardup override undo (\d+)` takes it back\n",
        output,
    )
    assert said is not None, output
    assert said[1] == said[2]
    return said[1]


def replayed(stack: Stack) -> int:
    """How many replays storage has applied."""
    with stack.api("text") as api:
        return api.stats().replayed


def await_decided_again(stack: Stack, before: int, images: Sequence[str]) -> None:
    """Waits until new images were decided again."""
    eventually(
        lambda: replayed(stack) >= before + len(images) or None,
        60,
        lambda: f"{replayed(stack) - before} of {len(images)} images were decided again",
    )


def test_the_hour_of_a_bad_model_is_rolled_back_undone_and_rolled_back_again(
    stack: Stack, session: WrittenSession, texts: Texts, hour: str
) -> None:
    good = ModelFolder(Path(stack.settings.signal("text")[1].model)).served()
    every = [*texts.first_ids, *texts.more_ids]
    session.stands_for |= {each.name: str(each) for each in (texts.first, texts.more, texts.late)}

    session.run("publish")
    before = stack.await_heads(texts.first_ids, "text")
    assert f"{hour} instead of {good}; the scorer serves it" in session.run("model use")
    next_second()
    session.run("publish")
    stack.await_heads(texts.more_ids, "text")
    bad = stack.heads(every, "text")
    within = next_second()

    expected = {**{each: each for each in texts.more_ids}, **before}
    expected |= {copy: before[text] for copy, text in texts.same_as.items()}
    adopted = [each for each in texts.first_ids if bad[each] != before[each]]
    assert adopted
    assert [each for each in texts.more_ids if bad[each] != expected[each]]
    wrong = adopted[0]

    served = re.search(rf"^{hour} is served since (\S+), before it {good}$", session.run("model list"), re.MULTILINE)
    assert served is not None
    session.stands_for |= {"2026-11-28T07:00:00Z": served[1], "2026-11-28T08:00:00Z": within, "hour-4-like": wrong}
    assert session.run("at") == f"{before[wrong]}\n"
    assert head_of(session.run("head")) == bad[wrong]

    assert f"{good} instead of {hour}; the scorer serves it" in session.run("model rollback")
    session.run("publish")
    late = {each: before[text] for each, text in texts.late_as.items()}
    assert stack.await_heads(list(late), "text") == late

    back = {each: (bad[each], before.get(each, each)) for each in every}
    assert moved(session.run("rollback")) == {each: way for each, way in back.items() if way[0] != way[1]}
    assert stack.heads(every, "text") == bad
    decided = replayed(stack)
    number = number_of(session.run("rollback"))
    assert stack.heads(texts.first_ids, "text") == before
    assert head_of(session.run("head")) == before[wrong]
    await_decided_again(stack, decided, texts.more_ids)
    assert stack.heads(every, "text") == expected
    assert stack.heads(late, "text") == late
    assert stack.problems("text") == []

    session.stands_for["17"] = number
    assert session.run("at") == f"{bad[wrong]}\n"
    assert f"where model={hour}, new: decide" in session.run("override show")
    assert f"{number} is undone" in session.run("override undo")
    assert head_of(session.run("head")) == bad[wrong]
    assert stack.heads(every, "text") == bad
    assert stack.heads(late, "text") == late

    decided = replayed(stack)
    again = number_of(session.run("rollback"))
    assert int(again) == int(number) + 2
    assert head_of(session.run("head")) == before[wrong]
    await_decided_again(stack, decided, texts.more_ids)
    assert stack.heads(every, "text") == expected
    assert stack.problems("text") == []
    assert session.left == []
    published = {each["image_id"]: each["head"] for each in stack.assignments("text")}
    assert {each: published[each] for each in every} == expected
