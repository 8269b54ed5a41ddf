"""`neardup dead-letters list|show|stats|settle|replay` on a topic without a broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.errors import UnavailableError
from core.settlements import parse_settlement
from neardup.events_pb2 import EmbeddingNotification
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.support.fake_reader import FakeTopics

SEARCH, JOINED, DEAD = (f"neardup.photos.{name}" for name in ("embeddings.search", "joined", "dead-letter"))

Run = Callable[..., tuple[int, str, str]]


def put(topics: FakeTopics, image: str, reason: Reason, topic: str = SEARCH) -> None:
    payload = EmbeddingNotification(image_id=image, image_version=3).SerializeToString()
    value = dead_letter(BadRecord(reason, f"why {image}"), Provenance(topic, 1, 40, 5), payload)
    topics.append(DEAD, value, image.encode())


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> FakeTopics:
    topics = FakeTopics()
    topics.patch(monkeypatch)
    put(topics, "a", Reason.MISSING_SCORE_HALF)
    put(topics, "b", Reason.UNPARSABLE)
    put(topics, "c", Reason.UNPARSABLE)
    put(topics, "d", Reason.FAULTED, JOINED)
    topics.append(DEAD, b"junk")
    return topics


@pytest.fixture
def run(topics: FakeTopics, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["dead-letters", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def data(run: Run, *words: str) -> Any:
    code, out, err = run(*words, "--json")
    assert code == Exit.OK, err
    return json.loads(out)


def listed(run: Run, *words: str) -> dict[str, list[int]]:
    found = data(run, "list", *words)["reasons"]
    return {group["reason"]: [one["offset"] for one in group["dead_letters"]] for group in found}


def test_an_image_without_a_key_is_named_by_its_payload(run: Run, topics: FakeTopics) -> None:
    """A record that cannot be parsed has no key, but its first fields may be there."""
    payload = EmbeddingNotification(image_id="named-inside", image_version=3, vector=bytes(90)).SerializeToString()
    value = dead_letter(BadRecord(Reason.UNPARSABLE, "cut off"), Provenance(SEARCH, 1, 40, 5), payload[:40])
    topics.append(DEAD, value, b"")
    _, out, _ = run("list", "--reason", "unparsable", "--limit", "1")
    assert "named-inside" in out
    assert data(run, "show", "5")["image_id"] == "named-inside"


def test_list_groups_by_reason(run: Run) -> None:
    assert listed(run) == {"faulted": [3], "missing_score_half": [0], "unparsable": [1, 2]}
    assert listed(run, "--limit", "1", "--reason", "unparsable") == {"unparsable": [2]}
    assert listed(run, "--image", "a", "--image", "c") == {"missing_score_half": [0], "unparsable": [2]}
    assert listed(run, "--since", "2023-11-14T22:13:23") == {"faulted": [3], "unparsable": [2]}
    code, out, _ = run("list")
    assert code == Exit.OK
    assert "unparsable: 2 open, 0 replayed, 0 acknowledged" in out
    assert "EmbeddingNotification: version 3" in out


def test_show_decodes_and_names_who_settled(run: Run) -> None:
    run("settle", "2", "--because", "sent again", "--author", "anna")
    found = data(run, "show", "2")
    assert (found["image_id"], found["state"]) == ("c", "acknowledged")
    assert found["payload"]["fields"] == {"image_id": "c", "image_version": 3}
    assert [(each["author"], each["reason"]) for each in found["settlements"]] == [("anna", "sent again")]
    code, out, _ = run("show", "2")
    assert code == Exit.OK
    assert "    image version" in out
    assert "anna" in out


@pytest.mark.parametrize(("offset", "said"), [("99", "offsets 0 to 4"), ("4", "not a dead letter")])
def test_show_of_something_else(run: Run, offset: str, said: str) -> None:
    code, _, err = run("show", offset)
    assert code == Exit.USAGE
    assert said in err


def test_what_is_settled_leaves_lists_counts_and_replays(run: Run, topics: FakeTopics) -> None:
    assert data(run, "settle", "--reason", "unparsable", "--because", "x", "--dry-run")["settled"] == 2
    assert len(topics.records[DEAD]) == 5
    assert data(run, "settle", "--reason", "unparsable", "--because", "x") == {
        "dry_run": False,
        "settled": 2,
        "settled_before": 0,
        "reasons": {"unparsable": 2},
    }
    assert data(run, "settle", "0", "1", "--because", "y")["settled"] == 1
    assert listed(run) == {"faulted": [3]}
    assert listed(run, "--state", "settled") == {"missing_score_half": [0], "unparsable": [1, 2]}
    assert listed(run, "--state", "all").keys() == {"faulted", "missing_score_half", "unparsable"}
    stats = data(run, "stats")
    assert (stats["open"], stats["acknowledged"], stats["replayed"]) == (1, 3, 0)
    assert (stats["settlements"], stats["unreadable"]) == (2, 1)
    assert data(run, "replay")["counts"]["sent"] == 0
    assert data(run, "replay", "--again")["counts"]["sent"] == 1
    assert data(run, "stats")["replayed"] == 1  # it was acknowledged too


def test_a_long_topic_is_read_with_a_bar_and_a_short_one_without(
    run: Run, topics: FakeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (("list",), ("stats",), ("show", "1"), ("replay", "--dry-run")):
        assert "0:00:0" not in run(*words)[2]
    monkeypatch.setattr("stream.cli.dead_letters_choice.LONG", 3)
    monkeypatch.setattr("stream.cli.dead_letters_choice.STEP", 1)
    for words, what in (
        (("list",), "reading what is settled"),
        (("stats",), "reading"),
        (("replay",), "sending"),
        (("settle", "--all", "--because", "x"), "settling"),
        (("show", "0"), "reading"),
    ):
        code, _, err = run(*words)
        assert (code, "100%" in err or "/" in err, what in err) == (Exit.OK, True, True), (words, err)


def test_after_an_error_the_commands_say_what_is_done(
    run: Run, topics: FakeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.dead_letters.settling.CHUNK", 1)
    append, calls = topics.append, []

    def failing(*words: Any, **others: Any) -> Any:
        calls.append(words)
        if len(calls) == 3:
            raise UnavailableError("no broker")
        return append(*words, **others)

    monkeypatch.setattr(topics, "append", failing)
    code, _, err = run("settle", "--all", "--because", "x")
    assert (code, "2 settled; the same command goes on from there" in err) == (Exit.UNAVAILABLE, True)
    assert data(run, "settle", "--all", "--because", "x")["settled"] == 2


def test_the_plain_command_shows_settlements_as_before(run: Run) -> None:
    run("settle", "3", "--because", "x", "--author", "anna")
    code, out, _ = run()
    assert code == Exit.OK
    assert "(acknowledged)" in out
    assert "(not a dead letter)" in out
    assert "anna: x" in out


def test_the_author_is_the_user_unless_given(run: Run, topics: FakeTopics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "berta")
    run("settle", "--all", "--because", "x")
    found = parse_settlement(topics.records[DEAD][-1].value)
    assert found is not None
    assert (found.author, found.ranges) == ("berta", ((0, 3),))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--because", "x"], "say which dead letters"),
        (["1", "--all", "--because", "x"], "say which dead letters"),
        (["4", "--because", "x"], "no dead letter at 4"),
        (["1", "--because", " "], "the reason of a settlement"),
        (["--reason", "bored", "--because", "x"], "no reason 'bored'"),
        (["1"], "--because"),
    ],
)
def test_a_settlement_without_choice_or_reason_is_refused(
    run: Run, topics: FakeTopics, words: list[str], said: str
) -> None:
    code, _, err = run("settle", *words)
    assert code == Exit.USAGE
    assert said in err
    assert len(topics.records[DEAD]) == 5


def test_stats_and_list_of_an_empty_topic(run: Run, topics: FakeTopics) -> None:
    topics.records[DEAD].clear()
    assert data(run, "stats")["open"] == 0
    assert data(run, "list") == {"reasons": []}
    assert "has no dead letter" in run("stats")[2]
    assert "is open" in run("list")[2]
