"""`neardup show`: one answer from the real HTTP API, an index, and topics without a broker; parts that are down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.errors import UnavailableError
from core.settlements import Kind, Settlement, settlement_bytes
from core.traces import trace_json
from core.types import Cause, ImageId, Move
from search.serving import search_pb2
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, D, decided, deletes, founds, put
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.printable import printable
from tests.support.fake_reader import FakeReader, FakeTopics
from tests.support.ports import free_ports
from tests.support.served_api import served_api
from tests.support.traces import sample_trace

DEAD, DEBUG = "neardup.photos.dead-letter", "neardup.photos.debug"
NASTY = ImageId("\x1b[2J[red]")

Run = Callable[..., tuple[int, str, str]]


class Index:
    """A search server that has the image `b`; down if told."""

    down = False

    def __init__(self, *_: object) -> None: ...

    def get(self, image_ids: Sequence[str]) -> search_pb2.GetResponse:
        if Index.down:
            raise UnavailableError("the search server is down\nreally")
        stored = search_pb2.StoredImage(image_id="b", image_version=1, place=1, score_code=b"x", hidden=True)
        return search_pb2.GetResponse(images=[stored] if list(image_ids) == ["b"] else [])

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def api_port() -> Iterator[int]:
    store = MemoryStore()
    put(store, founds(0, A), founds(1, B))
    put(store, decided(2, C, Move(C, None, A, Cause.MATCHED, 0.93, A), Move(B, B, A, Cause.ADOPTED, 0.75, C)))
    put(store, founds(3, NASTY), founds(4, D), deletes(5, D, D))
    with served_api(store) as port:
        yield port


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> FakeTopics:
    """`b` has a settled and an open dead letter, and two traces; others have more."""
    topics = FakeTopics()
    topics.patch(monkeypatch)
    monkeypatch.setattr("stream.image_report.TopicReader", lambda access, topic: FakeReader(topics, topic))
    for image, reason in (("b", Reason.MISSING_SCORE_HALF), ("a", Reason.FAULTED), ("b", Reason.UNPARSABLE)):
        value = dead_letter(BadRecord(reason, "why"), Provenance("t", 0, 1, 2), b"x")
        topics.append(DEAD, value, image.encode())
    topics.append(DEAD, b"junk", b"b")
    topics.append(DEAD, settlement_bytes(Settlement(Kind.ACKNOWLEDGED, "", ((0, 0),), "anna", "x")))
    for image, version in (("b", 1), ("a", 1), ("b", 2)):
        topics.append(DEBUG, trace_json(sample_trace(image_id=image, version=version)), image.encode())
    topics.append(DEBUG, trace_json(sample_trace(image_id=NASTY, unscored=NASTY)), NASTY.encode())
    return topics


@pytest.fixture
def run(api_port: int, topics: FakeTopics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(api_port))
    monkeypatch.setattr("stream.image_report.SearchClient", Index)
    monkeypatch.setattr(Index, "down", False)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["show", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def data(run: Run, *words: str) -> dict[str, Any]:
    code, out, err = run(*words, "--json")
    assert code == Exit.OK, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_everything_that_is_known(run: Run) -> None:
    found = data(run, "b")
    assert (found["verdict"]["head"], found["verdict"]["cause"]) == ("a", "adopted")
    assert (found["cluster"]["count"], found["cluster"]["members"]) == (3, ["a", "c", "b"])
    assert found["indexed"] == {"version": 1, "place": 1, "searchable": False, "hidden": True}
    assert [(each["old_head"], each["head"]) for each in found["history"]] == [(None, "b"), ("b", "a")]
    assert [(each["reason"], each["state"]) for each in found["dead_letters"]] == [
        ("missing_score_half", "acknowledged"),
        ("unparsable", "open"),
    ]
    assert [each["version"] for each in found["traces"]] == [1, 2]
    assert (found["rules"], found["deleted"], found["problems"]) == ([], None, [])


def test_as_text(run: Run) -> None:
    code, out, _ = run("b")
    assert code == Exit.OK
    for said in ("image b", "verdict\n", "cluster\n", "history\n", "dead letters\n", "traces\n", "rules: none"):
        assert said in out
    assert "b version 2 -> harbour-1" in out
    assert "acknowledged" in out


def test_limits(run: Run) -> None:
    found = data(run, "b", "--traces", "1", "--changes", "1", "--since", "2023-11-14T22:13:23")
    assert [each["version"] for each in found["traces"]] == [2]
    assert [each["cause"] for each in found["history"]] == ["adopted"]
    assert [each["reason"] for each in found["dead_letters"]] == ["unparsable"]


def test_an_image_of_which_only_a_part_is_known(run: Run, topics: FakeTopics) -> None:
    topics.append(DEBUG, trace_json(sample_trace(image_id="traced")), b"traced")
    found = data(run, "traced")
    assert (found["verdict"], found["cluster"], found["indexed"], len(found["traces"])) == (None, None, None, 1)
    assert "no verdict: it is unknown, or still waits" in run("traced")[1]
    assert "`neardup explain`" in run("c")[2]


def test_a_deleted_image_keeps_its_history(run: Run) -> None:
    found = data(run, "d")
    assert found["deleted"].startswith("1970-01-01T")
    assert (found["verdict"], found["cluster"]) == (None, None)
    assert [(each["head"], each["cause"]) for each in found["history"]] == [("d", "founded"), ("", "deleted")]
    code, out, _ = run("d")
    assert code == Exit.OK
    assert f"deleted at {found['deleted']}" in out
    assert "(deleted)" in out


def test_an_image_of_which_nothing_is_known(run: Run) -> None:
    code, out, err = run("nobody")
    assert (code, out) == (Exit.NOT_FOUND, "")
    assert "nothing is known of 'nobody'" in err


def test_a_part_that_is_down_is_named_and_the_rest_is_shown(
    run: Run, topics: FakeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Index, "down", True)
    del topics.records[DEBUG]
    code, out, err = run("b", "--json")
    assert code == Exit.UNAVAILABLE
    found = json.loads(out)
    assert found["verdict"]["head"] == "a"
    assert found["problems"] == [
        "the index: the search server is down",
        f"traces: Kafka has no topic {DEBUG}: run `neardup topics create`",
    ]
    assert "not everything could be asked" in err


def test_without_storage_it_says_nothing_of_the_verdict(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__API__PORT", str(free_ports(1)[0]))
    code, out, err = run("b")
    assert code == Exit.UNAVAILABLE
    assert "its verdict could not be asked for" in out
    assert "unknown" not in out
    assert "the verdict: the HTTP API at" in err


def test_texts_of_others_are_harmless(run: Run) -> None:
    code, out, _ = run(NASTY)
    assert code == Exit.OK
    assert printable(NASTY) in out
    assert all(printable(line) == line for line in out.split("\n"))
