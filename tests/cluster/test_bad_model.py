"""The session of the operations page on the real parts: a model with bad thresholds, from first sign to last trace.

The texts of the second signal are used, where no other test has an image without mates: a model that takes everything
for a match moves no image of another test.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.types import Thresholds
from scoring.card import write_card
from scoring.model_folder import ModelFolder
from stream.cli.exits import Exit
from stream.image_files import ImageFile
from stream.local.resolved import resolved_toml
from stream.publish import notification
from tests.support.stack import ROOT, Stack, eventually
from tests.support.text_signal import SCORE_DIMENSION, SEARCH_DIMENSION, TextSignal
from tests.support.written_session import WrittenSession, commands_of

pytestmark = pytest.mark.cluster

TITLE = "A bad model, from the first sign to the last dead letter"

VERSION = "pair-loose"
"""The bad version, as the page names it."""

LOOSE = 1e-9
"""A threshold that every pair reaches."""

PAIRS = 8
"""Texts with a copy. The last four have a look-alike too: it is found by their terms, and scores low."""

ALONE = 4
"""Texts without mates."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What is sent before and after the bad model is served."""

    first: Path
    more: Path
    first_ids: list[str]
    more_ids: list[str]
    same_as: dict[str, str]
    """The copies that are sent later, with the text that each is a copy of; all others of `more` are like none."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """
    first  0 .. 3: text, copy           4 .. 7: text, copy, look-alike   alone 0 .. 3
    more   0 .. 3: copy, look-alike     4 .. 7: copy                     look-alikes of these
    """
    folder, random = tmp_path_factory.mktemp("bad-model"), np.random.default_rng(23)
    rows: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {"first": [], "more": []}
    same_as: dict[str, str] = {}

    def vectors() -> tuple[np.ndarray, np.ndarray]:
        return random.standard_normal(SEARCH_DIMENSION), random.standard_normal(SCORE_DIMENSION)

    def near(vector: np.ndarray) -> np.ndarray:
        return vector + 0.02 * random.standard_normal(len(vector))

    def add(file: str, name: str, search: np.ndarray, score: np.ndarray) -> str:
        rows[file].append((name, search.astype(np.float32), score.astype(np.float32)))
        return name

    for n in range(PAIRS):
        search, score = vectors()
        text = add("first", f"loose-{n}", search, score)
        add("first", f"loose-{n}-copy", near(search), near(score))
        same_as[add("more", f"loose-{n}-late", near(search), near(score))] = text
        add("more" if n < PAIRS // 2 else "first", f"loose-{n}-like", near(search), vectors()[1])
    for n in range(ALONE):
        search, score = vectors()
        add("first", f"loose-alone-{n}", search, score)
        add("more", f"loose-alone-{n}-like", near(search), vectors()[1])
    for name, found in rows.items():
        columns = dict(zip(("image_id", "search", "score"), zip(*found, strict=True), strict=True))
        pq.write_table(pa.table({key: list(values) for key, values in columns.items()}), folder / f"{name}.parquet")
    ids = {name: [each[0] for each in found] for name, found in rows.items()}
    return Texts(folder / "first.parquet", folder / "more.parquet", ids["first"], ids["more"], same_as)


@pytest.fixture
def loose(text: TextSignal) -> Iterator[str]:
    """A version with the network of the served one, without its gate, and with thresholds that every pair reaches."""
    folder = ModelFolder(Path(text.settings["model"]))
    before = folder.served_since()
    shutil.copytree(folder.path(before[0]), folder.path(VERSION))
    limits = Thresholds(*(float(np.float32(LOOSE)),) * 3)
    card = replace(folder.card(before[0]), version=VERSION, thresholds=limits, gate=None)
    write_card(card, folder.path(VERSION))
    yield VERSION
    if folder.served() == VERSION:
        folder.restore(before)


@pytest.fixture
def session(stack: Stack, tmp_path: Path) -> Iterator[WrittenSession]:
    """The commands of the page, about the texts."""
    file = tmp_path / "neardup.toml"
    file.write_text(resolved_toml(stack.settings.model_copy(update={"default_signal": "text"})), encoding="utf-8")
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    with WrittenSession(commands_of(page, TITLE), file) as session:
        yield session


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
