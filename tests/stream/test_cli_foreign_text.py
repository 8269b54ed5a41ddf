"""Every command that shows text of others: no markup, no control characters, one line an id, JSON exact."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.types import Cause, Decision, ImageId, Move, Outcome
from search.serving import search_pb2
from storage.memory import MemoryStore
from stream.cli import output
from stream.cli.logs import configure_server_logs
from stream.cli.main import main
from stream.printable import printable
from stream.topic_reader import TopicRecord
from tests.support.served_api import served_api

NASTY = [
    "http://x/p?value[/model/2013/a.jpg]",
    "[/x]",
    "[red]not red[/red]",
    ":smile:",
    "two\nlines\r\nand\ttabs",
    "\x1b[2J\x1b]0;title\x07",
    "\x7f\x9b31m",
    "gpj.\u202eexe\u2066",
    "a\u2028b\u2029c",
]
HEAD = NASTY[0]


def decision(offset: int, image: str) -> Decision:
    if image == HEAD:
        move = Move(ImageId(image), None, ImageId(HEAD), Cause.FOUNDED)
    else:
        move = Move(ImageId(image), None, ImageId(HEAD), Cause.MATCHED, None, ImageId(HEAD))
    return Decision(
        offset, offset, Outcome.DECIDED, ImageId(image), 1, offset, (move,), b"\x01" * 16, b"\x00\x3c", b"\x00\x3c"
    )


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    store = MemoryStore()
    store.apply("log", [decision(offset, image) for offset, image in enumerate(NASTY)], -1, 0)
    with served_api(store) as port:
        monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(port))
        yield


class Topic:
    """A topic with one record for each nasty text."""

    def __init__(self, *_: Any) -> None: ...

    def __enter__(self) -> Topic:
        return self

    def __exit__(self, *_: object) -> None: ...

    def last(self, count: int) -> Iterator[TopicRecord]:
        for offset, text in enumerate(NASTY):
            key = text.encode()
            source = Provenance(f"topic {text}", 0, offset, 5)
            yield TopicRecord(offset, 5, key, dead_letter(BadRecord(Reason.UNKNOWN_EMBEDDING, text), source, b"x"))

    def follow(self) -> Iterator[TopicRecord]:
        for offset, text in enumerate(NASTY):
            yield TopicRecord(offset, 5, b"", json.dumps({"image_id": text}, ensure_ascii=False).encode())

    def seek(self, offset: int) -> None: ...

    def ends(self) -> tuple[int, int]:
        return 0, len(NASTY)

    def between(self, at: int, end: int) -> Iterator[TopicRecord]:
        return (each for each in self.last(end) if at <= each.offset < end)


class Index:
    """A search server whose candidates have nasty ids."""

    def __init__(self, *_: Any) -> None: ...

    def search(self, queries: object) -> search_pb2.SearchResponse:
        found = search_pb2.Candidates(
            image_ids=NASTY,
            overlaps=np.arange(len(NASTY), dtype="<u2").tobytes(),
            places=np.arange(len(NASTY), dtype="<i8").tobytes(),
        )
        return search_pb2.SearchResponse(answers=[search_pb2.SearchAnswer(known=True, candidates=found)])

    def close(self) -> None: ...


def harmless(text: str) -> bool:
    return all(printable(line) == line for line in text.split("\n"))


@pytest.mark.parametrize("command", ["similar", "members"])
def test_ids_of_members_take_one_line_each(command: str, api: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, HEAD]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [printable(text) for text in NASTY]
    assert harmless(said.out)
    assert harmless(said.err)
    assert main([command, HEAD, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["members"] == NASTY
    assert harmless(said.out)


@pytest.mark.parametrize("image", NASTY)
def test_one_image_is_shown(image: str, api: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["head", image]) == 0
    said = capsys.readouterr().out
    assert harmless(said)
    assert printable(image) in said
    assert main(["head", image, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image_id"] == image


@pytest.mark.parametrize("image", NASTY)
def test_an_error_names_the_id(image: str, api: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["head", f"unknown {image}"]) == 3
    assert harmless(capsys.readouterr().err)


@pytest.mark.parametrize("words", [["dead-letters"], ["dead-letters", "--json"], ["tail", "assignments"]])
def test_records_of_topics(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stream.topic_reader.TopicReader", Topic)
    assert main(words) == 0
    said = capsys.readouterr().out
    assert harmless(said)
    if words == ["dead-letters"]:
        assert all(printable(text) in said for text in NASTY)
        return
    name = "image_id" if "tail" in words else "detail"
    assert [json.loads(line)[name] for line in said.splitlines()] == NASTY


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["show", "4"], ["show", "4", "--json"], ["stats"]])
def test_dead_letters(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("stream.topic_reader.TopicReader", Topic)
    assert main(["dead-letters", *words]) == 0
    said = capsys.readouterr().out
    assert harmless(said)
    if words[-1] == "list":
        assert all(printable(text) in said for text in NASTY)


def test_candidates(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("search.serving.client.SearchClient", Index)
    assert main(["search", "--image-id", "a"]) == 0
    said = capsys.readouterr().out
    assert all(printable(text) in said for text in NASTY)
    assert harmless(said)
    assert main(["search", "--image-id", "a", "--json"]) == 0
    assert [row["image_id"] for row in json.loads(capsys.readouterr().out)["candidates"]] == NASTY


@pytest.mark.parametrize("text", NASTY)
def test_notes_and_progress(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.note(f"about {text}")
    assert capsys.readouterr().err == f"about {printable(text)}\n"
    with output.progress_bar() as bar:
        bar.add_task(printable(text), total=1, note=printable(text))
    assert harmless(capsys.readouterr().err)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("text", NASTY)
def test_log_lines(form: str, text: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("NEARDUP_LOG_FORMAT", form)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)

    def restore() -> None:
        root.handlers[:] = before
        root.setLevel(level)

    request.addfinalizer(restore)
    root.handlers[:] = []
    configure_server_logs("part")
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("here").exception("image %s", text)
    said = stream.getvalue()
    assert harmless(said)
    if form == "json":
        assert json.loads(said)["message"].startswith(f"image {text}")
