"""The session of the operations page on the real parts: a model with bad thresholds, from first sign to last trace.

The texts of the second signal are used, where no other test has an image without mates: a model that takes everything
for a match moves no image of another test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests.image_files import ImageFile
from scoring.model_folder import ModelFolder
from stream.cli.exits import Exit
from stream.publish import notification
from tests.support.bad_model import Texts, loose_version
from tests.support.stack import Stack, eventually
from tests.support.text_signal import SCORE_DIMENSION, SEARCH_DIMENSION, TextSignal
from tests.support.written_session import WrittenSession

pytestmark = pytest.mark.cluster

TITLE = "A bad model, from the first sign to the last dead letter"

VERSION = "pair-loose"
"""The bad version, as the page names it."""

TEXTS = ("loose", 23)
"""How the ids of what is sent begin, and the seed of its vectors."""


@pytest.fixture
def loose(text: TextSignal) -> Iterator[str]:
    """The bad version."""
    with loose_version(Path(text.settings["model"]), VERSION):
        yield VERSION


def other_heads(output: str) -> set[str]:
    """The images of a diff whose heads changed."""
    return set(re.findall(r"^\s*(\S+)\s+other head\s", output, re.MULTILINE))


def cut_off(stack: Stack, texts: Texts) -> None:
    """Sends three notifications that end too early."""
    signal = stack.settings.signal("text")[1]
    rows = list(ImageFile(texts.more, SEARCH_DIMENSION, SCORE_DIMENSION))[:3]
    values = [notification(row, signal.search_embedding, row.search)[:200] for row in rows]
    stack.send_raw(signal.topic("search"), [(b"cut-off", value) for value in values])


def test_a_bad_model_is_seen_explained_rolled_back_and_undone(
    stack: Stack, session: WrittenSession, texts: Texts, loose: str, tmp_path: Path
) -> None:
    good = ModelFolder(Path(stack.settings.signal("text")[1].model)).served()
    every = [*texts.first_ids, *texts.more_ids]
    session.stands_for |= {"first.parquet": str(texts.first), "more.parquet": str(texts.more)}

    session.run("publish")
    before = stack.await_heads(texts.first_ids, "text")
    followed = tmp_path / "tail.txt"
    follower = session.follow("debug tail", followed)
    assert f"{loose} instead of {good}; the scorer serves it" in session.run("model use")
    session.run("publish")
    cut_off(stack, texts)
    stack.await_heads(texts.more_ids, "text")
    bad = stack.heads(every, "text")

    expected = {**{each: each for each in texts.more_ids}, **before}
    expected |= {copy: before[text] for copy, text in texts.same_as.items()}
    changed = {each for each in every if bad[each] != expected[each]}
    assert changed & set(texts.first_ids)  # adopted by the bad model
    assert changed & set(texts.more_ids)
    assert not changed & set(texts.same_as)

    def shown() -> bool | None:
        return True if set(every) <= set(followed.read_text().split()) else None

    eventually(shown, 30, lambda: f"debug tail shows {followed.read_text()}")
    assert session.interrupt(follower) == Exit.INTERRUPTED

    served = re.search(rf"^{loose} is served since (\S+), before it {good}$", session.run("model list"), re.MULTILINE)
    assert served is not None
    wrong = next(each for each in texts.more_ids if each in changed)
    session.stands_for |= {"2026-11-27T17:36:37Z": served[1], "pair-99409e30e2": good, "loose-0-like": wrong}
    assert wrong in session.run("debug grep")
    explained = session.run("explain").splitlines()[0]
    assert bad[wrong] in explained
    assert f"model {loose}" in explained
    assert other_heads(session.run("replay")) == changed

    assert f"{good} instead of {loose}; the scorer serves it" in session.run("model rollback")
    assert other_heads(session.run("replay --id")) == {wrong}
    assert stack.heads([wrong], "text") == {wrong: expected[wrong]}
    assert other_heads(session.run("replay --since")) == changed - {wrong}
    assert stack.heads(every, "text") == expected
    assert other_heads(session.run("replay --since")) == set()
    assert stack.problems("text") == []

    assert re.search(r"^unparsable\s+3\s", session.run("dead-letters stats"), re.MULTILINE)
    offset = re.search(r"^\s*(\d+)\s+\S+Z\s+open\s", session.run("dead-letters list"), re.MULTILINE)
    assert offset is not None
    session.stands_for["2"] = offset[1]
    assert texts.more_ids[0][:6] in session.run("dead-letters show")
    session.run("dead-letters settle")
    assert re.search(r"^all\s+0\s", session.run("dead-letters stats"), re.MULTILINE)
    assert session.left == []
